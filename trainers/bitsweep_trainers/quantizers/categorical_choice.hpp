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

// Whether the higher of two runs is the more probable one at x: z r of their points nearest to x.
struct Fallen {
    const Runs& runs;
    int lower, higher;
    double two_cosh_h = 2 * std::cosh(runs.alpha / (2 * runs.sigma));

    bool operator()(double x) const {
        const double to_lower = distance(lower, x), to_higher = distance(higher, x);
        return runs.z[higher] * q(to_lower) * std::exp(to_lower - to_higher) >
               runs.z[lower] * q(to_higher);
    }

  private:
    double distance(int run, double x) const {
        const double nearest = std::nearbyint(x / runs.alpha);
        const double n = clamped<double>(nearest, runs.low[run], runs.high[run]);
        return std::fabs(runs.alpha * n - x) / runs.sigma;
    }

    double q(double distance) const {
        const double e = std::exp(-distance);
        return e * (e + two_cosh_h) + 1;
    }
};

// The largest number of T that is not above x: `value > it` says what `value > x` would.
template <typename T>
inline T not_above(double x) {
    const T rounded = T(x);
    return rounded > x ? std::nextafter(rounded, -std::numeric_limits<T>::infinity()) : rounded;
}

// The largest x at which the lower run stands, equally likely points included, as exactly as it
// takes for numbers of T; it may be infinite.
template <typename T>
inline double takeover(const Runs& runs, int lower, int higher) {
    const double middle = runs.alpha * (runs.high[lower] + runs.low[higher]) / 2;
    if (runs.z[lower] == runs.z[higher]) {
        return middle;
    }
    const double reach = 40 * runs.sigma;  // beyond it both fall alike, to the last digit
    const bool is_rare = runs.z[higher] < runs.z[lower];
    double stands = is_rare ? middle : runs.alpha * runs.low[lower] - reach;
    double falls = is_rare ? runs.alpha * runs.high[higher] + reach : middle;
    const Fallen has_fallen{runs, lower, higher};
    if (is_rare ? !has_fallen(falls) : has_fallen(stands)) {
        return is_rare ? INFINITY : -INFINITY;
    }
    for (;;) {
        const double x = stands + (falls - stands) / 2;
        const bool is_between = x > stands && x < falls;  // not where one of the three is a NaN
        if (!is_between || not_above<T>(stands) == not_above<T>(falls)) {
            return stands;
        }
        (has_fallen(x) ? falls : stands) = x;
    }
}

// The runs that are chosen somewhere, in ascending order; the first from -infinity on.
template <typename T>
inline std::vector<Takeover> takeovers_of(const Runs& runs) {
    std::vector<Takeover> best;
    for (int run = 0; run < runs.size(); run++) {
        if (!(runs.z[run] > 0)) {
            continue;
        }
        double above = -INFINITY;
        while (!best.empty()) {
            above = takeover<T>(runs, best.back().run, run);
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

// A takeover as an element meets it: what stands below it is cut at its run's end, what is above
// at the next one's start.
template <typename T>
struct Cut {
    T above, end, start;

    T of(T x, T n) const {
        const T lower = n > end ? end : n;
        const T higher = n < start ? start : n;
        return x > above ? higher : lower;
    }
};

// alpha n*, two cuts at a time: what is between them stays in registers.
template <typename T>
void choose_block(const T* x, T* y, int64_t count, const Scales<T>& k, const Runs& runs,
                  const std::vector<Takeover>& takeovers) {
    const T first = T(runs.low[takeovers.front().run]), last = T(runs.high[takeovers.back().run]);
    const T never = std::numeric_limits<T>::infinity();
    const auto cut = [&](size_t j) {
        if (j >= takeovers.size()) {
            return Cut<T>{never, last, last};
        }
        return Cut<T>{not_above<T>(takeovers[j].above), T(runs.high[takeovers[j - 1].run]),
                      T(runs.low[takeovers[j].run])};
    };
    for (int64_t i = 0; i < count; i++) {
        const T nearest = std::nearbyint(x[i] / k.alpha);
        y[i] = nearest < first ? first : nearest;
    }
    for (size_t j = 1; j < takeovers.size(); j += 2) {
        const Cut<T> one = cut(j), other = cut(j + 1);
        for (int64_t i = 0; i < count; i++) {
            y[i] = other.of(x[i], one.of(x[i], y[i]));
        }
    }
    for (int64_t i = 0; i < count; i++) {
        y[i] = (y[i] > last ? last : y[i]) * k.alpha;
    }
}

}  // namespace
