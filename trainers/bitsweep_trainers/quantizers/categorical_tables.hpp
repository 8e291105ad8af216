// What elements that lie in the run of their point look up by that run: its ends, and the edges
// that are near enough to count.

#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <algorithm>

#include "categorical_edges.hpp"
#include "categorical_packed.hpp"
#include "categorical_scales.hpp"

namespace {

constexpr int64_t SPAN = 256;  // elements whose numbers stay in the first cache
constexpr int MOST_RUNS = 8;
constexpr int MOST_NEAR = 3;   // edges of one side that are near enough to count
constexpr int TABLE = 16;      // one vector register; what is beyond the runs is never looked up

template <typename T>
using Table = T[TABLE];

// An edge as seen from each run, its weight relative to that run's z; there is none where outer is
// inner, as in a dropped run, which is nobody's home.
template <typename T>
struct Slots {
    Table<T> weight = {}, decay = {}, beyond = {};  // e^-beyond; sigma from the nearest edge
    int outer[MOST_RUNS] = {}, inner[MOST_RUNS] = {};
};

// Narrower vectors look up and pack number by number, and sorting is quicker then.
#if defined(__AVX512F__)
constexpr bool HAS_WIDE_VECTORS = true;
#else
constexpr bool HAS_WIDE_VECTORS = false;
#endif

// The tables, if the runs and the edges that count are few enough for them: else they do not serve.
template <typename T>
struct Homes {
    bool serves = false;
    int num_runs, num_below = 1, num_above = 1;
    Table<T> low = {}, high = {};
    double z[MOST_RUNS] = {};
    Slots<T> below[MOST_NEAR], above[MOST_NEAR];  // the nearest ones first

    explicit Homes(const Runs& runs) : num_runs(runs.size()) {
        if (!HAS_WIDE_VECTORS || num_runs > MOST_RUNS) {
            return;
        }
        for (int run = 0; run < num_runs; run++) {
            low[run] = T(runs.edge(run));
            high[run] = T(runs.edge(run + 1));
            z[run] = runs.z[run];
            const bool is_home = z[run] > 0;
            if (is_home && !(put(runs, run, -1, below, num_below) &&
                             put(runs, run, +1, above, num_above))) {
                return;
            }
        }
        serves = true;
    }

    // Where a run begins; nowhere if it is beyond the last.
    T begin(int run) const { return run < num_runs ? low[run] : T(INFINITY); }

  private:
    // The edges on one side of a run; false if they are too many.
    bool put(const Runs& runs, int run, int direction, Slots<T>* slots, int& most) {
        std::vector<Edge<T>> edges;
        add_edges(runs, run, direction, edges);
        if (edges.size() > MOST_NEAR) {
            return false;
        }
        most = std::max(most, int(edges.size()));
        for (size_t j = 0; j < edges.size(); j++) {
            const double sigmas = std::fabs(double(edges[j].at) - edges[0].at) / runs.sigma;
            slots[j].weight[run] = T(edges[j].weight / z[run]);
            slots[j].beyond[run] = T(sigmas);
            slots[j].decay[run] = T(std::exp(-sigmas));
            slots[j].outer[run] = edges[j].outer;
            slots[j].inner[run] = edges[j].inner;
        }
        return true;
    }
};

// What a span of elements looks up, and x inside the grid.
template <typename T, int BELOW, int ABOVE>
struct LookedUp {
    static constexpr int SLOTS = BELOW + ABOVE;
    int32_t run[SPAN];
    T at[SPAN], low[SPAN], high[SPAN];
    T weight[SLOTS][SPAN], decay[SLOTS][SPAN], beyond[SLOTS][SPAN];

    LookedUp(const T* from, int64_t full, const Scales<T>& k, const Homes<T>& homes) {
        T begin[MOST_RUNS];
        for (int r = 0; r < MOST_RUNS; r++) {
            begin[r] = homes.begin(r);
        }
        for (int64_t i = 0; i < full; i++) {
            const T x = clamped(from[i], k.low_edge, k.high_edge);
            at[i] = x;
            run[i] = (((x > begin[1]) + (x > begin[2])) + ((x > begin[3]) + (x > begin[4]))) +
                     (((x > begin[5]) + (x > begin[6])) + (x > begin[7]));
        }
        for (int64_t i = 0; i < full; i++) {
            low[i] = homes.low[run[i]];
            high[i] = homes.high[run[i]];
        }
        for (int s = 0; s < SLOTS; s++) {
            const Slots<T>& slot = s < BELOW ? homes.below[s] : homes.above[s - BELOW];
            for (int64_t i = 0; i < full; i++) {
                weight[s][i] = slot.weight[run[i]];
                decay[s][i] = slot.decay[run[i]];
                beyond[s][i] = slot.beyond[run[i]];
            }
        }
    }
};

#if defined(__AVX512F__)
// The same, tables in registers: compilers make no such instructions of loops.
template <int BELOW, int ABOVE>
struct LookedUp<float, BELOW, ABOVE> {
    static constexpr int SLOTS = BELOW + ABOVE;
    int32_t run[SPAN];
    float at[SPAN], low[SPAN], high[SPAN];
    float weight[SLOTS][SPAN], decay[SLOTS][SPAN], beyond[SLOTS][SPAN];

    LookedUp(const float* from, int64_t full, const Scales<float>& k,
             const Homes<float>& homes) {
        __m512 begin[MOST_RUNS], weights[SLOTS], decays[SLOTS], beyonds[SLOTS];
        for (int r = 0; r < MOST_RUNS; r++) {
            begin[r] = _mm512_set1_ps(homes.begin(r));
        }
        for (int s = 0; s < SLOTS; s++) {
            const Slots<float>& slot = s < BELOW ? homes.below[s] : homes.above[s - BELOW];
            weights[s] = _mm512_loadu_ps(slot.weight);
            decays[s] = _mm512_loadu_ps(slot.decay);
            beyonds[s] = _mm512_loadu_ps(slot.beyond);
        }
        const __m512 lows = _mm512_loadu_ps(homes.low), highs = _mm512_loadu_ps(homes.high);
        const __m512 least = _mm512_set1_ps(k.low_edge), most = _mm512_set1_ps(k.high_edge);
        const __m512i one = _mm512_set1_epi32(1);
        for (int64_t i = 0; i < full; i += 16) {
            // In this order a NaN stays one.
            const __m512 x = _mm512_min_ps(most, _mm512_max_ps(least, _mm512_loadu_ps(from + i)));
            __m512i places = _mm512_setzero_si512();
            for (int r = 1; r < MOST_RUNS; r++) {
                const __mmask16 is_beyond = _mm512_cmp_ps_mask(x, begin[r], _CMP_GT_OQ);
                places = _mm512_mask_add_epi32(places, is_beyond, places, one);
            }
            _mm512_storeu_ps(at + i, x);
            _mm512_storeu_si512(run + i, places);
            _mm512_storeu_ps(low + i, _mm512_permutexvar_ps(places, lows));
            _mm512_storeu_ps(high + i, _mm512_permutexvar_ps(places, highs));
            for (int s = 0; s < SLOTS; s++) {
                _mm512_storeu_ps(weight[s] + i, _mm512_permutexvar_ps(places, weights[s]));
                if (s != 0 && s != BELOW) {
                    _mm512_storeu_ps(decay[s] + i, _mm512_permutexvar_ps(places, decays[s]));
                    _mm512_storeu_ps(beyond[s] + i, _mm512_permutexvar_ps(places, beyonds[s]));
                }
            }
        }
    }
};
#endif

}  // namespace
