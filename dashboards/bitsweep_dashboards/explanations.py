"""What each statistic on the pages means, in words: (title, text)."""

EXPLANATIONS: dict[str, tuple[str, str]] = {
    "mean": (
        "mean ± sd, n",
        "The mean over n seeds of the configuration that validation chose, and the sample "
        "standard deviation (n - 1) between seeds. It is the spread of single runs, not the "
        "uncertainty of the mean; the exact value is under the pointer.",
    ),
    "marks": (
        "marks",
        "Bold is the best mean of a bit-width, underlined the second. A star marks an arm whose "
        "comparison was declared before it was measured and is significant at 0.05 after Holm's "
        "correction over all such comparisons. Bold without a star claims nothing.",
    ),
    "bitops": (
        "BitOps, size",
        "Multiplications of a forward pass for one image, each weighted by weight bits times "
        "activation bits. Size is what the weights, their steps and the norm take on disk, in "
        "bits. Which layers count is the sweep's cost convention, which stands in the notes.",
    ),
    "front": (
        "Pareto front",
        "Cells that no other cell beats in both accuracy and BitOps. The front is chosen on "
        "validation and drawn where the chosen cells came out on the reported split: a front of "
        "test results would flatter. It is that of all arms, whichever are shown.",
    ),
    "paired": (
        "paired difference",
        "Both arms on the same seeds, seed by seed. The interval is the 95 % t interval of the "
        "mean difference; with few seeds it is wide. A p-value is the exact two-sided sign-flip "
        "test, which can never fall below 2 / 2^n for n seeds.",
    ),
    "holm": (
        "Holm",
        "Of several declared comparisons one may seem significant by chance. Holm raises each "
        "p-value so that the chance of any false claim in the family stays at 5 %.",
    ),
    "history": (
        "reading it",
        "Each point is a configuration at the newest epoch it was measured at, on validation. "
        "Grey crosses were pruned: the scheduler stopped them early, so that they are not "
        "comparable with finished ones. The line is the best finished value so far.",
    ),
    "parallel": (
        "reading it",
        "A line per configuration, from its lowest to its highest tried value on each axis (rates "
        "on a logarithmic scale). Coloured lines are the best quarter on validation.",
    ),
    "slices": (
        "reading it",
        "One parameter against the metric, everything else varying freely: a trend that shows "
        "here may be another parameter's.",
    ),
    "importance": (
        "functional ANOVA",
        "Functional ANOVA: the share of a random forest's variance that a parameter explains "
        "alone. What the bars leave to 1 is interaction. With few configurations it is unstable.",
    ),
    "contour": (
        "reading it",
        "What a random forest predicts from these two parameters alone; white points were tried. "
        "Away from points the colour is a guess.",
    ),
    "layers": (
        "reading it",
        "Weight bits of each layer after each epoch, as factors of the BitOps (branches counted), "
        "averaged over the confirmed seeds.",
    ),
    "shares": (
        "reading it",
        "The part of the test samples that ran the layer at these bits, over all seeds.",
    ),
    "spread": (
        "reading it",
        "How the cost of one sample spreads over the test split, in equal bins.",
    ),
    "shuffled": (
        "shuffled control",
        "The same allocations, given to other samples at random. A policy that looks at the "
        "sample must beat its own shuffle at equal cost; where both agree, it only mixes bits.",
    ),
    "hours": (
        "device time",
        "Training time up to the newest evaluation, summed over the sweep's trials. A trial that "
        "several sweeps share counts in each of them.",
    ),
    "best": (
        "best",
        "The quantized cell that validation prefers, as it came out on the split in brackets. "
        "Full precision is left out.",
    ),
    "attempts": (
        "what is one",
        "Each time the trial was given to a worker, with the code and the machine.",
    ),
}
