// The most probable point where points are masked (4.2), without a probability: of two runs the
// higher one gains on the lower wherever x moves up, so each takes over at one place. The places
// are found once a tensor; an element is compared with them.

#pragma once

#include <algorithm>
#include <limits>

#include "categorical_scales.hpp"

namespace {

// Above x the points low..high of a run are chosen from, up to the next takeover.
struct Takeover {
    double above;
    int run;
};

// log(z r) of a run's point nearest to x, up to what is the same for all runs.
inline double score(const Runs& runs, int run, double x) {
    const double alpha = runs.alpha, sigma = runs.sigma;
    const double n = clamped<double>(std::nearbyint(x / alpha), runs.low[run], runs.high[run]);
    const double u = std::fabs(alpha * n - x) / sigma, e = std::exp(-u);
    return std::log(runs.z[run]) - u - std::log1p(e * (e + 2 * std::cosh(alpha / (2 * sigma))));
}

// The largest x at which the lower run stands, equally likely points included; it may be infinite.
inline double takeover(const Runs& runs, int lower, int higher) {
    const double middle = runs.alpha * (runs.high[lower] + runs.low[higher]) / 2;
    if (runs.z[lower] == runs.z[higher]) {
        return middle;
    }
    const double reach = 40 * runs.sigma;  // beyond it both fall alike, to the last digit
    const bool is_rare = runs.z[higher] < runs.z[lower];
    double stands = is_rare ? middle : runs.alpha * runs.low[lower] - reach;
    double falls = is_rare ? runs.alpha * runs.high[higher] + reach : middle;
    const auto has_fallen = [&](double x) {
        return score(runs, higher, x) > score(runs, lower, x);
    };
    if (is_rare ? !has_fallen(falls) : has_fallen(stands)) {
        return is_rare ? INFINITY : -INFINITY;
    }
    for (;;) {
        const double x = stands + (falls - stands) / 2;
        if (x <= stands || x >= falls) {
            return stands;
        }
        (has_fallen(x) ? falls : stands) = x;
    }
}

// The runs that are chosen somewhere, in ascending order; the first from -infinity on.
inline std::vector<Takeover> takeovers_of(const Runs& runs) {
    std::vector<Takeover> best;
    for (int run = 0; run < runs.size(); run++) {
        if (!(runs.z[run] > 0)) {
            continue;
        }
        double above = -INFINITY;
        while (!best.empty()) {
            above = takeover(runs, best.back().run, run);
            if (above > best.back().above) {
                break;
            }
            best.pop_back();  // it is passed before it is reached
            above = -INFINITY;
        }
        if (above < INFINITY) {
            best.push_back({above, run});
        }
    }
    return best;
}

// The largest number of T that is not above x: `value > it` says what `value > x` would.
template <typename T>
inline T not_above(double x) {
    const T rounded = T(x);
    return rounded > x ? std::nextafter(rounded, -std::numeric_limits<T>::infinity()) : rounded;
}

// alpha n*: what stands below each takeover is cut at its run's end, above at the next one's start.
template <typename T>
void choose_block(const T* x, T* y, int64_t count, const Scales<T>& k, const Runs& runs,
                  const std::vector<Takeover>& takeovers) {
    const T first = T(runs.low[takeovers.front().run]);
    for (int64_t i = 0; i < count; i++) {
        const T nearest = std::nearbyint(x[i] / k.alpha);
        y[i] = nearest < first ? first : nearest;
    }
    for (size_t j = 1; j < takeovers.size(); j++) {
        const T above = not_above<T>(takeovers[j].above);
        const T end = T(runs.high[takeovers[j - 1].run]), start = T(runs.low[takeovers[j].run]);
        for (int64_t i = 0; i < count; i++) {
            const T lower = y[i] > end ? end : y[i];
            const T higher = y[i] < start ? start : y[i];
            y[i] = x[i] > above ? higher : lower;
        }
    }
    const T last = T(runs.high[takeovers.back().run]);
    for (int64_t i = 0; i < count; i++) {
        y[i] = (y[i] > last ? last : y[i]) * k.alpha;
    }
}

}  // namespace
