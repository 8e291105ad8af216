// The gradient where points are masked, of elements that lie in the run their point is chosen
// from: nearly all. r and D are no small numbers there, so that nothing has to be relative to
// another, and e^-distance of one edge on each side gives those of all.

#pragma once

#include <algorithm>
#include <type_traits>

#include "categorical_packed.hpp"
#include "categorical_scales.hpp"
#include "categorical_tables.hpp"

namespace {

constexpr int64_t SEARCHED = 64;  // elements that are looked through at once

constexpr int64_t VECTOR_BYTES = 64;

// One register of numbers; compilers add up by condition in no other form.
template <typename T>
struct Vector {
    static constexpr int64_t WIDTH = VECTOR_BYTES / sizeof(T);
    using Place = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    typedef T Numbers __attribute__((vector_size(VECTOR_BYTES)));
    typedef Place Places __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t Runs __attribute__((vector_size(WIDTH * sizeof(int32_t))));
};

// What the edges take from each run, by slot and by place in a register.
template <typename T, int SLOTS>
struct Sums {
    using Numbers = typename Vector<T>::Numbers;
    static constexpr int64_t WIDTH = Vector<T>::WIDTH;
    Numbers of[MOST_RUNS][SLOTS] = {};

    void take(int r, const int32_t* run, const T (*share)[SPAN], int64_t full) {
        Numbers kept[SLOTS];
        std::memcpy(kept, of[r], sizeof kept);
        for (int64_t i = 0; i < full; i += WIDTH) {
            typename Vector<T>::Runs runs;
            std::memcpy(&runs, run + i, sizeof runs);
            const auto is_here = __builtin_convertvector(runs, typename Vector<T>::Places) == r;
            for (int s = 0; s < SLOTS; s++) {
                Numbers numbers;
                std::memcpy(&numbers, share[s] + i, sizeof numbers);
                kept[s] += is_here ? numbers : Numbers{};
            }
        }
        std::memcpy(of[r], kept, sizeof kept);
    }

    void add_to(double* dz, const Homes<T>& homes, int num_below) const {
        for (int r = 0; r < homes.num_runs; r++) {
            for (int s = 0; s < SLOTS; s++) {
                const Slots<T>& slot = s < num_below ? homes.below[s] : homes.above[s - num_below];
                if (slot.outer[r] == slot.inner[r]) {
                    continue;
                }
                double sum = 0;
                for (int64_t place = 0; place < WIDTH; place++) {
                    sum += of[r][s][place];
                }
                sum /= homes.z[r];
                dz[slot.outer[r]] -= sum;
                dz[slot.inner[r]] += sum;
                dz[r] += sum * slot.weight[r];  // 1 / z - 1 / D
            }
        }
    }
};

// The gradient of a span of packed elements as far as they are at home; the others are listed in
// `left`.
template <typename T, int BELOW, int ABOVE>
void home_span(Packed<T>& of, int64_t begin, const Scales<T>& k, const Homes<T>& homes,
               Totals& totals, Sums<T, BELOW + ABOVE>& sums, int32_t* left, int32_t& num_left) {
    constexpr int SLOTS = BELOW + ABOVE;
    const int64_t count = std::min<int64_t>(SPAN, of.count - begin);
    const int64_t full = (count + LANES - 1) / LANES * LANES;
    const LookedUp<T, BELOW, ABOVE> my(of.x + begin, full, k, homes);
    alignas(64) int32_t is_left[SPAN];
    alignas(64) T share[SLOTS][SPAN];
    const T inverse_sigma = T(1) / k.sigma;
    const T *x = of.x + begin, *y = of.y + begin, *Gy = of.Gy + begin;
    const T *at = my.at, *low = my.low, *high = my.high;
    T* dx = of.dx + begin;
    const T(*weight)[SPAN] = my.weight, (*decay)[SPAN] = my.decay, (*beyond)[SPAN] = my.beyond;
    T x_dx = 0, dsigma = 0;
#pragma omp simd reduction(+ : x_dx, dsigma)
    for (int64_t i = 0; i < full; i++) {
        const T point = y[i], Gpoint = Gy[i], here = at[i], from = low[i], to = high[i];
        const bool is_home = (point > from) & (point < to) & (x[i] == here);
        is_left[i] = !is_home;
        const T u = is_home ? (point - here) * inverse_sigma : T(0);
        const T e = exponential(-std::fabs(u));
        const T gap_below = (here - from) * inverse_sigma;
        const T gap_above = (to - here) * inverse_sigma;
        const T nearest_below = exponential(-gap_below), nearest_above = exponential(-gap_above);
        T v[SLOTS], before[SLOTS + 1];
        before[0] = (e + k.two_cosh_h) * e + T(1);
        for (int s = 0; s < SLOTS; s++) {
            v[s] = s < BELOW ? nearest_below : nearest_above;
            if (s != 0 && s != BELOW) {
                v[s] *= decay[s][i];
            }
            before[s + 1] = before[s] * (T(1) + v[s]);
        }
        T after = T(1) / before[SLOTS];  // one division for all
        T D = 1, sum_T = 0, sum_s = 0, S[SLOTS];
        for (int s = SLOTS - 1; s >= 0; s--) {
            S[s] = v[s] * (after * before[s]);
            const T part = weight[s][i] * S[s], slope = part * (after * before[s]);
            after *= T(1) + v[s];
            D += part;
            sum_T += s < BELOW ? -slope : slope;
            const T gap = s < BELOW ? gap_below : gap_above;
            sum_s += slope * (s == 0 || s == BELOW ? gap : gap + beyond[s][i]);
        }
        const T t = std::copysign((T(1) - e * e) * after, u);
        const T slope = u * t + k.two_h_sinh_h * e * after - k.h_and_psi;
        const T inverse_D = T(1) / D;
        const T pi = (e * after * k.two_sinh_h) * inverse_D;
        const T w = is_home ? Gpoint * pi : T(0);
        const T found = w * (t - sum_T * inverse_D) * inverse_sigma;
        dx[i] = found;
        x_dx += found * here;
        dsigma += w * (slope - sum_s * inverse_D) * inverse_sigma;
        for (int s = 0; s < SLOTS; s++) {
            share[s][i] = w * inverse_D * S[s];
        }
    }
    totals.x_dx += x_dx;
    totals.dsigma += dsigma;
    for (int r = 0; r < homes.num_runs; r++) {
        sums.take(r, my.run, share, full);
    }
    for (int64_t i = full; i < SPAN; i++) {
        is_left[i] = 0;
    }
    for (int64_t some = 0; some < full; some += SEARCHED) {
        int32_t any = 0;
        for (int64_t i = some; i < some + SEARCHED; i++) {
            any |= is_left[i];
        }
        for (int64_t i = some; any && i < std::min<int64_t>(some + SEARCHED, count); i++) {
            left[num_left] = of.where[begin + i];
            num_left += is_left[i];
        }
    }
}

// The elements that are at home; the others are listed in `left`, and their number is returned.
template <typename T, int BELOW, int ABOVE>
int32_t home_part(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                  const Homes<T>& homes, Packed<T>& packed, Totals& totals, double* dz,
                  int32_t* left) {
    int32_t num_left = 0;
    Sums<T, BELOW + ABOVE> sums;
    totals.G_y += pack(x, y, G, dx, count, packed);
    for (int32_t begin = 0; begin < packed.count; begin += SPAN) {
        home_span<T, BELOW, ABOVE>(packed, begin, k, homes, totals, sums, left, num_left);
    }
    unpack(packed, y, count, dx);
    sums.add_to(dz, homes, BELOW);
    return num_left;
}

// The same where no table serves: every point but those at zero is left.
template <typename T>
int32_t no_home_part(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                     const Homes<T>& homes, Packed<T>& packed, Totals& totals, double* dz,
                  int32_t* left) {
    T G_y = 0;
#pragma omp simd reduction(+ : G_y)
    for (int64_t i = 0; i < count; i++) {
        dx[i] = G[i] * y[i];
        G_y += dx[i];
    }
    totals.G_y += G_y;
    int32_t num_left = 0;
    for (int64_t i = 0; i < count; i++) {
        left[num_left] = int32_t(i);
        num_left += !(y[i] == 0);  // no branch: it could not be foreseen
    }
    return num_left;
}

}  // namespace
