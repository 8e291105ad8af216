// The passes of `categorical.py` over memory, one each way, for a CPU: letters, numbers of sections
// and formulas are those of that file. Widths and masks are run-time values. Loops are written so
// that a compiler makes vectors of them; sums are taken in parts of a fixed size and in their
// order, so that they do not depend on the number of threads. No flag that would lose a NaN.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr int64_t PART = 1 << 14;  // elements of a sum in `T`; parts are added up in double
constexpr int64_t BLOCK = 512;     // elements whose temporaries stay in the first cache

inline double exponential(double x) { return std::exp(x); }

// e^x within 2 units in the last place from -60 to 88, as Cephes does; e^-60 below: what is so far
// away counts for nothing, and products of smaller numbers would be subnormal, which is slow.
inline float exponential(float x) {
    x = x < -60.0f ? -60.0f : x;
    const float n = std::nearbyint(x * 1.44269504088896341f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

// A NaN in x stays one: both comparisons are false.
template <typename T>
inline T clamped(T x, T low, T high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

template <typename T>
inline T psi(T D) {
    return D / std::expm1(D);
}

// The grid in units of x; the scalars of section 4.1.
template <typename T>
struct Scales {
    T alpha, sigma, low, high, low_edge, high_edge, reach_low, reach_high;
    T two_cosh_h, two_sinh_h, two_h_sinh_h, h_and_psi;

    Scales(double alpha_, double sigma_, int low_, int high_)
        : alpha(T(alpha_)), sigma(T(sigma_)), low(T(low_)), high(T(high_)) {
        const double h = alpha_ / (2 * sigma_), reach = 30 * sigma_;
        low_edge = T(alpha_ * (low_ - 0.5));
        high_edge = T(alpha_ * (high_ + 0.5));
        reach_low = T(alpha_ * (low_ - 0.5) - reach);
        reach_high = T(alpha_ * (high_ + 0.5) + reach);
        two_cosh_h = T(2 * std::cosh(h));
        two_sinh_h = T(2 * std::sinh(h));
        two_h_sinh_h = T(2 * h * std::sinh(h));
        h_and_psi = T(h + psi(2 * h));
    }
};

template <typename T>
struct Run {
    T z, low, high, low_edge, high_edge, half_D, psi_D, scale;

    Run(const Scales<T>& s, double alpha, double sigma, int low_, int high_, double z_)
        : z(T(z_)), low(T(low_)), high(T(high_)) {
        const double D = alpha * (high_ - low_ + 1) / sigma, h = alpha / (2 * sigma);
        low_edge = T(alpha * (low_ - 0.5));
        high_edge = T(alpha * (high_ + 0.5));
        half_D = T(D / 2);
        psi_D = T(psi(D));
        scale = T(-std::expm1(-D) / (2 * std::sinh(h)));
    }
};

template <typename T>
std::vector<Run<T>> runs_of(const Scales<T>& s, double alpha, double sigma, int num_runs,
                            const int32_t* lows, const int32_t* highs, const double* z) {
    std::vector<Run<T>> runs;
    for (int i = 0; i < num_runs; i++) {
        runs.emplace_back(s, alpha, sigma, lows[i], highs[i], z[i]);
    }
    return runs;
}

// What t = sigma dlog(r)/dx and s = sigma dlog(r)/dsigma of the chosen point are (4.1).
template <typename T>
struct Cell {
    T distance, e, q, t, s;

    Cell(T u, const Scales<T>& k) {
        distance = std::fabs(u);
        e = exponential(-distance);
        q = (e + k.two_cosh_h) * e + T(1);
        const T inverse = T(1) / q;
        t = std::copysign((T(1) - e * e) * inverse, u);
        s = u * t + k.two_h_sinh_h * e * inverse - k.h_and_psi;
    }
};

// What a part of a tensor adds to the sums: G y, x dx, dsigma, and dz of each run.
struct Totals {
    double G_y = 0, x_dx = 0, dsigma = 0;
};

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

// The normaliser is the sum of z R over runs, relative to r of the chosen point (4.4).
template <typename T>
void masked_block(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                  const std::vector<Run<T>>& runs, T* relative, Totals& totals, double* dz) {
    T at[BLOCK], distance[BLOCK], q[BLOCK], t[BLOCK], s[BLOCK];
    T A[BLOCK], S[BLOCK], inverse[BLOCK];
    T D[BLOCK], sum_T[BLOCK], sum_s[BLOCK], own_z[BLOCK];
    const T inverse_sigma = T(1) / k.sigma;
    for (int64_t i = 0; i < count; i++) {
        at[i] = clamped(x[i], k.reach_low, k.reach_high);
        const Cell<T> cell((y[i] - at[i]) * inverse_sigma, k);
        distance[i] = cell.distance;
        q[i] = cell.q;
        t[i] = cell.t;
        s[i] = cell.s;
        A[i] = (runs[0].low_edge - at[i]) * inverse_sigma;
        const T e = exponential(-std::fabs(A[i]));
        inverse[i] = T(1) / (T(1) + e);
        S[i] = A[i] > 0 ? inverse[i] : e * inverse[i];
        D[i] = sum_T[i] = sum_s[i] = own_z[i] = 0;
    }
    for (size_t r = 0; r < runs.size(); r++) {
        const Run<T> run = runs[r];
        T* share = relative + r * BLOCK;
        for (int64_t i = 0; i < count; i++) {
            const T above = (run.high_edge - at[i]) * inverse_sigma;
            const T e = exponential(-std::fabs(above));
            const T inverse_above = T(1) / (T(1) + e);
            const T S_above = above > 0 ? inverse_above : e * inverse_above;
            const T mean = S[i] + S_above - T(1);
            const T slope = (A[i] + above) * T(0.5) * mean -
                            (run.half_D * (T(1) - S_above + S[i]) + run.psi_D);
            T exponent = distance[i] + (above < 0 ? above : T(0)) - (A[i] > 0 ? A[i] : T(0));
            exponent = exponent > 60 ? T(60) : exponent;  // LARGEST_EXPONENT
            const T R = exponential(exponent) * run.scale * inverse[i] * inverse_above * q[i];
            const T weight = run.z * R;
            const bool is_own = y[i] > run.low_edge && y[i] < run.high_edge;
            share[i] = R;
            D[i] += weight;
            sum_T[i] += mean * weight;
            sum_s[i] += slope * weight;
            own_z[i] = is_own ? run.z : own_z[i];
            A[i] = above;
            S[i] = S_above;
            inverse[i] = inverse_above;
        }
    }
    T G_y = 0, x_dx = 0, dsigma = 0;
    T* w = A;  // what they held is not needed any more
    T* w_over_D = S;
#pragma omp simd reduction(+ : G_y, x_dx, dsigma)
    for (int64_t i = 0; i < count; i++) {
        w[i] = G[i] * y[i] * own_z[i] / D[i];
        w_over_D[i] = w[i] / D[i];
        const T found = w[i] * (t[i] - sum_T[i] / D[i]) * inverse_sigma;
        dx[i] = found;
        G_y += G[i] * y[i];
        x_dx += found * at[i];
        dsigma += w[i] * (s[i] - sum_s[i] / D[i]) * inverse_sigma;
    }
    totals.G_y += G_y;
    totals.x_dx += x_dx;
    totals.dsigma += dsigma;
    for (size_t r = 0; r < runs.size(); r++) {
        const Run<T> run = runs[r];
        const T* share = relative + r * BLOCK;
        const T of_own = run.z > 0 ? T(1) / run.z : T(1);
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) {
            const bool is_own = y[i] > run.low_edge && y[i] < run.high_edge;
            sum += (is_own ? w[i] * of_own : T(0)) - share[i] * w_over_D[i];
        }
        dz[r] += sum;
    }
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

// alpha n*: per run the nearest point stands, and the best of z r among them wins (4.2).
template <typename T>
void choose_block(const T* x, T* y, int64_t count, const Scales<T>& k,
                  const std::vector<Run<T>>& runs) {
    if (runs.size() == 1) {
        for (int64_t i = 0; i < count; i++) {
            y[i] = clamped(std::nearbyint(x[i] / k.alpha), k.low, k.high) * k.alpha;
        }
        return;
    }
    T nearest[BLOCK], least[BLOCK], best[BLOCK];
    const T alpha = k.alpha, two_cosh_h = k.two_cosh_h, inverse_sigma = T(1) / k.sigma;
    for (int64_t i = 0; i < count; i++) {
        nearest[i] = std::nearbyint(x[i] / alpha);
        best[i] = -1;
        least[i] = INFINITY;
    }
    for (const Run<T> run : runs) {
        if (!(run.z > 0)) {
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            const T point = clamped(nearest[i], run.low, run.high) * alpha;
            const T u = std::fabs((point - x[i]) * inverse_sigma);
            least[i] = u < least[i] ? u : least[i];
        }
    }
    for (const Run<T> run : runs) {
        if (!(run.z > 0)) {
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            const T point = clamped(nearest[i], run.low, run.high) * alpha;
            const T u = std::fabs((point - x[i]) * inverse_sigma);
            const T e = exponential(-u);
            const T score = run.z * exponential(least[i] - u) / ((e + two_cosh_h) * e + T(1));
            const bool is_best = !(score <= best[i]);  // a NaN in x is taken, and stays one
            y[i] = is_best ? point : y[i];
            best[i] = is_best ? score : best[i];
        }
    }
}

template <typename T>
void choose(const T* x, T* y, int64_t count, double alpha, double sigma, int num_runs,
            const int32_t* lows, const int32_t* highs, const double* z, int threads) {
    const Scales<T> k(alpha, sigma, lows[0], highs[num_runs - 1]);
    const auto runs = runs_of(k, alpha, sigma, num_runs, lows, highs, z);
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t begin = b * BLOCK, size = count - begin < BLOCK ? count - begin : BLOCK;
        choose_block(x + begin, y + begin, size, k, runs);
    }
}

// is_plain: the straight-through gradient instead of that of the probability.
template <typename T>
void slopes(const T* x, const T* y, const T* G, T* dx, int64_t count, double alpha, double sigma,
            int num_runs, const int32_t* lows, const int32_t* highs, const double* z, int is_plain,
            double* sums, int threads) {
    const Scales<T> k(alpha, sigma, lows[0], highs[num_runs - 1]);
    const auto runs = runs_of(k, alpha, sigma, num_runs, lows, highs, z);
    const int64_t parts = (count + PART - 1) / PART;
    std::vector<Totals> totals(parts);
    std::vector<double> dz(parts * num_runs);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<T> relative(num_runs > 1 ? num_runs * BLOCK : 0);
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
            for (int64_t b = begin; b < end; b += BLOCK) {
                const int64_t size = end - b < BLOCK ? end - b : BLOCK;
                masked_block(x + b, y + b, G + b, dx + b, size, k, runs, relative.data(),
                             totals[p], dz.data() + p * num_runs);
            }
        }
    }
    for (int64_t p = 0; p < parts; p++) {
        sums[0] += totals[p].G_y;
        sums[1] += totals[p].x_dx;
        sums[2] += totals[p].dsigma;
        for (int r = 0; r < num_runs; r++) {
            sums[3 + r] += dz[p * num_runs + r];
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
