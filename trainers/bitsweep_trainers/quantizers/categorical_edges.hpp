// Which edges between runs are near enough to x to count.

#pragma once

#include <limits>
#include <vector>

#include "categorical_scales.hpp"

namespace {

// An edge between two runs as seen from x: S of its far side is e^-gap / (1 + e^-gap).
template <typename T>
struct Edge {
    T at, sign;     // sign (at - x) >= 0
    T weight;       // z of the run behind it less that of the run before it
    int outer, inner;
};

// log of a lower bound of z R of a run relative to e^-(distance of its near edge).
inline double log_least(const Runs& runs, int run) {
    const double z = runs.z_of(run);
    if (!(z > 0)) {
        return -INFINITY;
    }
    return std::log(z * -std::expm1(-(runs.edge(run + 1) - runs.edge(run)) / runs.sigma) / 4);
}

// Edges in one direction (+1 up, -1 down) as far as they change a sum in T.
template <typename T>
void add_edges(const Runs& runs, int own, int direction, std::vector<Edge<T>>& edges) {
    const double log_negligible = std::log(std::numeric_limits<T>::epsilon() / 2);

    const int nearest = direction > 0 ? own + 1 : own;
    double least = log_least(runs, own);
    for (int j = nearest; j >= 0 && j <= runs.size(); j += direction) {
        const double distance = std::fabs(runs.edge(j) - runs.edge(nearest)) / runs.sigma;
        if (std::log1p(distance) - distance < least + log_negligible) {
            return;
        }
        const int outer = direction > 0 ? j : j - 1, inner = direction > 0 ? j - 1 : j;
        const double weight = runs.z_of(outer) - runs.z_of(inner);
        edges.push_back({T(runs.edge(j)), T(direction), T(weight), outer, inner});
        least = std::max(least, log_least(runs, outer) - distance);
    }
}

}  // namespace
