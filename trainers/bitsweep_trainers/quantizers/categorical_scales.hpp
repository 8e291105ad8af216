// What `categorical_kernels.cpp` computes with: the exponential, the grid as scalars, one point.
// Letters and numbers of sections are those of `categorical.py`.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t PART = 1 << 14;  // elements of a sum in `T`; parts are added up in double
constexpr int64_t BLOCK = 512;      // elements whose temporaries stay in the first cache
constexpr double LARGEST_EXPONENT = 60.0;  // as in categorical_slopes.py

inline double exponential(double x) { return std::exp(x); }

// e^x within 2 units in the last place from -60 to 88, by the polynomial of Cephes; e^-60 below:
// what is so far away counts for nothing, and products of smaller numbers would be subnormal, which
// is slow. A sum with 1.5 * 2^23 is rounded to an integer, and has it in its last bits.
inline float exponential(float x) {
    x = x < -60.0f ? -60.0f : x;
    const float sum = x * 1.44269504088896341f + 12582912.0f;
    const float n = sum - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t power, bits;
    std::memcpy(&power, &sum, sizeof power);
    std::memcpy(&bits, &p, sizeof bits);
    bits += static_cast<int32_t>(static_cast<uint32_t>(power) << 23);
    std::memcpy(&p, &bits, sizeof p);
    return p;
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

// The runs of equal mask in ascending order; -1 and size() are what lies outside, with z = 0.
struct Runs {
    double alpha, sigma;
    std::vector<int> low, high;
    std::vector<double> z;

    Runs(double alpha_, double sigma_, int count, const int32_t* lows, const int32_t* highs,
         const double* z_)
        : alpha(alpha_), sigma(sigma_), low(lows, lows + count), high(highs, highs + count),
          z(z_, z_ + count) {}

    int size() const { return int(z.size()); }
    double z_of(int run) const { return run < 0 || run >= size() ? 0.0 : z[run]; }
    // Where run j begins, which is where run j - 1 ends.
    double edge(int j) const { return alpha * (j < size() ? low[j] - 0.5 : high.back() + 0.5); }
};

// What t = sigma dlog(r)/dx and s = sigma dlog(r)/dsigma of the chosen point are (4.1).
template <typename T>
struct Cell {
    T distance, e, q, inverse, t, s;

    Cell(T u, const Scales<T>& k) {
        distance = std::fabs(u);
        e = exponential(-distance);
        q = (e + k.two_cosh_h) * e + T(1);
        inverse = T(1) / q;
        t = std::copysign((T(1) - e * e) * inverse, u);
        s = u * t + k.two_h_sinh_h * e * inverse - k.h_and_psi;
    }
};

// What a part of a tensor adds to the sums: G y, x dx, dsigma, and dz of each run.
struct Totals {
    double G_y = 0, x_dx = 0, dsigma = 0;
};

}  // namespace
