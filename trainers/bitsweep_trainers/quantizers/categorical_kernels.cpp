// The passes of `categorical.py` over memory, one each way, for a CPU: letters, numbers of sections
// and formulas are those of that file. Widths and masks are run-time values. Loops are written so
// that a compiler makes vectors of them; sums are taken in parts of a fixed size and in their
// order, so that they do not depend on the number of threads. No flag that would lose a NaN.

#include "categorical_choice.hpp"
#include "categorical_masked.hpp"
#include "categorical_scales.hpp"

namespace {

// Nothing is masked: the normaliser is R = (1 - e^-2H) / ((1 + P) (1 + Q)).
template <typename T>
void unmasked_part(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                   Totals& totals) {
    const T width = (k.high_edge - k.low_edge) / k.sigma, H = width / 2;
    const T whole = -std::expm1(-width), rest = H + psi(width);
    const T centre = (k.low_edge + k.high_edge) / 2, inverse_sigma = T(1) / k.sigma;
    T G_y = 0, x_dx = 0, dsigma = 0;
#pragma omp simd reduction(+ : G_y, x_dx, dsigma)
    for (int64_t i = 0; i < count; i++) {
        const T at = clamped(x[i], k.reach_low, k.reach_high);
        const Cell<T> cell((y[i] - at) * inverse_sigma, k);
        const T P = exponential((k.low_edge - at) * inverse_sigma);
        const T Q = exponential((at - k.high_edge) * inverse_sigma);
        const T both = (T(1) + P) * (T(1) + Q);
        const T mean = (P - Q) / both, R = whole / both;  // exactly 1 far out, as t is
        const T slope = (centre - at) * inverse_sigma * mean + R * H - rest;
        const T pi = cell.e * k.two_sinh_h / (R * cell.q);
        const T w = G[i] * y[i] * pi;
        const T found = w * (cell.t - mean) * inverse_sigma;
        dx[i] = found;
        G_y += G[i] * y[i];
        x_dx += found * at;
        dsigma += w * (cell.s - slope) * inverse_sigma;
    }
    totals.G_y += G_y;
    totals.x_dx += x_dx;
    totals.dsigma += dsigma;
}

// Straight through inside the span of the grid: sums G y and x dx.
template <typename T>
void plain_part(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                Totals& totals) {
    T G_y = 0, x_dx = 0;
#pragma omp simd reduction(+ : G_y, x_dx)
    for (int64_t i = 0; i < count; i++) {
        const T found = x[i] > k.low_edge && x[i] < k.high_edge ? G[i] : T(0);
        dx[i] = found;
        G_y += G[i] * y[i];
        x_dx += found * x[i];
    }
    totals.G_y += G_y;
    totals.x_dx += x_dx;
}

template <typename T>
void choose(const T* x, T* y, int64_t count, double alpha, double sigma, int num_runs,
            const int32_t* lows, const int32_t* highs, const double* z, int threads) {
    const Scales<T> k(alpha, sigma, lows[0], highs[num_runs - 1]);
    const Runs runs(alpha, sigma, num_runs, lows, highs, z);
    const auto takeovers = takeovers_of<T>(runs);
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t begin = b * BLOCK, size = count - begin < BLOCK ? count - begin : BLOCK;
        choose_block(x + begin, y + begin, size, k, runs, takeovers);
    }
}

// is_plain: the straight-through gradient instead of that of the probability.
template <typename T>
void slopes(const T* x, const T* y, const T* G, T* dx, int64_t count, double alpha, double sigma,
            int num_runs, const int32_t* lows, const int32_t* highs, const double* z, int is_plain,
            double* sums, int threads) {
    const Scales<T> k(alpha, sigma, lows[0], highs[num_runs - 1]);
    const Runs runs(alpha, sigma, num_runs, lows, highs, z);
    const auto regions = regions_of<T>(runs, takeovers_of<T>(runs));
    const Homes<T> homes(runs);
    const int64_t parts = (count + PART - 1) / PART;
    std::vector<Totals> totals(parts);
    std::vector<double> dz(parts * (num_runs + 2));  // and what lies outside on both sides
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Sorting<T> sorting(regions);
#pragma omp for
        for (int64_t p = 0; p < parts; p++) {
            const int64_t begin = p * PART, end = count - begin < PART ? count : begin + PART;
            if (is_plain) {
                plain_part(x + begin, y + begin, G + begin, dx + begin, end - begin, k, totals[p]);
                continue;
            }
            if (num_runs == 1) {
                unmasked_part(x + begin, y + begin, G + begin, dx + begin, end - begin, k,
                              totals[p]);
                continue;
            }
            masked_part(x + begin, y + begin, G + begin, dx + begin, end - begin, k, homes,
                        regions, sorting, totals[p], dz.data() + p * (num_runs + 2) + 1);
        }
    }
    for (int64_t p = 0; p < parts; p++) {
        sums[0] += totals[p].G_y;
        sums[1] += totals[p].x_dx;
        sums[2] += totals[p].dsigma;
        for (int r = 0; r < num_runs; r++) {
            sums[3 + r] += dz[p * (num_runs + 2) + 1 + r];
        }
    }
}

}  // namespace

#define BOTH_TYPES(SUFFIX, T)                                                                     \
    extern "C" void choose_##SUFFIX(const T* x, T* y, int64_t count, double alpha, double sigma,  \
                                    int num_runs, const int32_t* lows, const int32_t* highs,      \
                                    const double* z, int threads) {                               \
        choose<T>(x, y, count, alpha, sigma, num_runs, lows, highs, z, threads);                  \
    }                                                                                             \
    extern "C" void slopes_##SUFFIX(const T* x, const T* y, const T* G, T* dx, int64_t count,     \
                                    double alpha, double sigma, int num_runs,                     \
                                    const int32_t* lows, const int32_t* highs, const double* z,   \
                                    int is_plain, double* sums, int threads) {                    \
        slopes<T>(x, y, G, dx, count, alpha, sigma, num_runs, lows, highs, z, is_plain, sums,     \
                  threads);                                                                       \
    }

BOTH_TYPES(float32, float)
BOTH_TYPES(float64, double)
