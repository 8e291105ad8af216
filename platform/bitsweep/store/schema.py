"""Tables and views of the result database; the comments are its documentation.

Times are ISO 8601 text in UTC, sizes are in bits, durations in seconds.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

SCHEMA_VERSION = "0007"  # of the newest migration
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key(name: str, target: str, *, nullable: bool = False, index: bool = True) -> Column[int]:
    return Column(name, ForeignKey(target), nullable=nullable, index=index)


sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True, comment="the sweep's name"),
    Column("question", Text, nullable=False, comment="what it asks"),
    Column("reproduces", Text, nullable=False, comment="the claim it goes back to"),
    Column("expects", Text, nullable=False, comment="what was expected before it ran"),
    Column("cost", Text, nullable=False, comment="what it was said to cost"),
    Column("text", Text, nullable=False, comment="the sweep file as last run"),
    Column("text_sha256", String(64), nullable=False, comment="digest of that text"),
    Column("command", Text, nullable=False, comment="what ran it last"),
    Column("goal", String(8), nullable=False, comment="maximize | minimize"),
    Column(
        "metric",
        String(64),
        nullable=False,
        server_default="top1_percent",
        comment="what it is judged by: its tables and figures show it",
    ),
    Column("convention", String(20), nullable=False, comment="default cost convention"),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    comment="one question each",
)
arms = Table(
    "arms",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("sweep_id", "sweeps.id"),
    Column("name", String(200), nullable=False),
    Column("method", String(64), nullable=False),
    Column("digest", String(64), nullable=False, comment="of task, arm, search and objectives"),
    Column("position", Integer, nullable=False, comment="order in the sweep file"),
    Column("is_current", Boolean, nullable=False, comment="stands in the sweep file as last run"),
    UniqueConstraint("sweep_id", "name", "digest"),
    comment="one method with its space inside a sweep; an edited arm is a new row",
)
configurations = Table(
    "configurations",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("arm_id", "arms.id"),
    Column("study", String(200), nullable=False, comment="bits its objective is taken at"),
    Column("number", Integer, nullable=False, comment="order of proposal in its study"),
    Column("parameters", JSON, nullable=False, comment="as proposed"),
    Column("digest", String(64), nullable=False, comment="of the parameters, if not a repetition"),
    UniqueConstraint("arm_id", "study", "digest"),
    comment="what a sampler proposed, repetitions included; its trials are in memberships",
)
models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("data", String(64), nullable=False, comment="the data whose shape it was built for"),
    Column("digest", String(64), nullable=False, unique=True, comment="of the layers"),
    comment="a network at an input shape",
)
layers = Table(
    "layers",
    metadata,
    Column("model_id", ForeignKey("models.id"), primary_key=True),
    Column("layer", Integer, primary_key=True, comment="order of execution, from 0"),
    Column("name", String(200), nullable=False),
    Column("kind", String(16), nullable=False, comment="conv | depthwise | linear"),
    Column("place", String(8), nullable=False, comment="first | body | last | agent"),
    Column("macs", BigInteger, nullable=False),
    Column("weights", BigInteger, nullable=False),
    Column("biases", Integer, nullable=False),
    Column("norm_channels", Integer, nullable=False, comment="channels of its batch norm"),
    comment="the layers with multiplications",
)
trials = Table(
    "trials",
    metadata,
    Column("id", String(64), primary_key=True, comment="SHA-256 of what determines the numbers"),
    Column("method", String(64), nullable=False, index=True),
    _key("model_id", "models.id"),
    Column("data", String(64), nullable=False),
    Column("bits", String(200), nullable=False, comment="widths the network is trained for"),
    Column("epochs", Integer, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("start_id", String(64), comment="the trial it starts from"),
    Column("document", JSON, nullable=False, comment="the whole content of the identity"),
    Column("last_epoch", Integer, comment="of its newest evaluation"),
    Column("created_at", String(32), nullable=False),
    comment="one training each, whichever sweeps contain it",
)
memberships = Table(
    "memberships",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("sweep_id", "sweeps.id"),
    _key("arm_id", "arms.id", nullable=True),
    _key("configuration_id", "configurations.id", nullable=True),
    _key("trial_id", "trials.id"),
    Column("stage", String(8), nullable=False, comment="start | search | confirm"),
    comment="which trial serves which arm of which sweep, and in which stage",
)
Index(
    "uq_memberships",
    memberships.c.sweep_id,
    memberships.c.trial_id,
    memberships.c.stage,
    func.coalesce(memberships.c.arm_id, -1),
    func.coalesce(memberships.c.configuration_id, -1),
    unique=True,
)
parameters = Table(
    "parameters",
    metadata,
    Column("trial_id", ForeignKey("trials.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", Float, comment="the value, if it is a number"),
    Column("text", Text, nullable=False, comment="the value as text"),
    comment="resolved parameters of a trial",
)
claims = Table(
    "claims",
    metadata,
    Column("trial_id", ForeignKey("trials.id"), primary_key=True),
    Column("owner", String(200), nullable=False, comment="host:process:run of the driver"),
    Column("heartbeat_at", Float, nullable=False, comment="Unix time of the last sign of life"),
    comment="which driver runs a trial at this moment",
)
requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("sweep_id", "sweeps.id"),
    Column("kind", String(8), nullable=False, comment="stop | cancel"),
    Column("made_at", String(32), nullable=False),
    Column("made_by", String(255), nullable=False, comment="host:process that asked"),
    comment="what drivers of a sweep were asked to do; each heeds what came after its own start",
)
drivers = Table(
    "drivers",
    metadata,
    Column("owner", String(200), primary_key=True, comment="host:process:run, as in claims"),
    _key("sweep_id", "sweeps.id"),
    Column("place", String(255), nullable=False, comment="the cluster or machine it runs on"),
    Column("priority", Integer, nullable=False, comment="resources.priority of the sweep file"),
    Column("is_waiting", Boolean, nullable=False, comment="it would start more trials at once"),
    Column("heartbeat_at", Float, nullable=False, comment="Unix time of the last sign of life"),
    comment="the drivers at this moment, and which of them goes first",
)
provenance = Table(
    "provenance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("git_commit", String(40)),
    Column("git_is_dirty", Boolean),
    Column("git_diff", Text, comment="what differed from the commit"),
    Column("python", String(32), nullable=False),
    Column("versions", JSON, nullable=False, comment="of the packages that matter"),
    Column("hostname", String(255), nullable=False),
    Column("device", String(255), nullable=False),
    comment="code, packages and machine of attempts",
)
attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("trial_id", "trials.id"),
    _key("sweep_id", "sweeps.id"),
    _key("provenance_id", "provenance.id"),
    Column("owner", String(200), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    comment="each time a trial was given to a worker",
)
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trial_id", ForeignKey("trials.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("seconds", Float, nullable=False, comment="training time up to here"),
    Column("examples", Integer, nullable=False, comment="examples seen up to here"),
    Column("recorded_at", String(32), nullable=False),
    UniqueConstraint("trial_id", "epoch"),
    comment="one round of measurements of a trial",
)
allocations = Table(
    "allocations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True, comment="of label, model and bits"),
    Column("label", Text, nullable=False, comment="w4a4, or bits per layer, or policy:NAME"),
    _key("model_id", "models.id"),
    comment="bits given to the layers of a model, stored once",
)
layer_bits = Table(
    "layer_bits",
    metadata,
    Column("allocation_id", ForeignKey("allocations.id"), primary_key=True),
    Column("layer", Integer, primary_key=True),
    Column("variant", Integer, primary_key=True, comment="0, or one per bits a policy gives"),
    Column("weight_bits", Float, nullable=False, comment="factor of the BitOps"),
    Column("activation_bits", Float, nullable=False, comment="factor of the BitOps"),
    Column("stored_bits", Float, nullable=False, comment="on disk, per weight of one network"),
    Column("scalars", Integer, nullable=False, comment="32-bit steps and zero-points"),
    Column("norm_copies", Integer, nullable=False, comment="batch norms kept side by side"),
    Column("share", Float, nullable=False, comment="part of the samples run at these bits"),
    comment="the bits of each layer of an allocation",
)
COST_COLUMNS = ("body", "whole_ends8", "whole_ends32", "whole_agent")
measurements = Table(
    "measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trial_id", ForeignKey("trials.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("split", String(16), nullable=False, comment="validation | test"),
    _key("allocation_id", "allocations.id"),
    Column("allocator", String(16), nullable=False, comment="who chose the bits"),
    Column("lambda", Float, comment="the allocator's price of BitOps, where it has one"),
    Column("protocol", String(16), nullable=False, comment="batch norm: running | re-estimated"),
    Column("correct", Integer, comment="right answers; empty for a regression"),
    Column("total", Integer, nullable=False, comment="samples"),
    Column("loss_sum", Float, comment="loss summed over samples"),
    Column("metric_sums", JSON, nullable=False, comment="further metrics summed over samples"),
    Column("mean_weight_bits", Float, nullable=False, comment="of the body, by weights"),
    *(Column(f"bitops_{name}", Float, nullable=False) for name in COST_COLUMNS),
    *(Column(f"size_bits_{name}", BigInteger, nullable=False) for name in COST_COLUMNS),
    comment="what was counted on one split at one allocation: raw facts",
)
Index(
    "uq_measurements",
    measurements.c.trial_id,
    measurements.c.epoch,
    measurements.c.split,
    measurements.c.allocation_id,
    measurements.c.allocator,
    func.coalesce(measurements.c["lambda"], -1.0),
    measurements.c.protocol,
    unique=True,
)
sample_costs = Table(
    "sample_costs",
    metadata,
    Column("measurement_id", ForeignKey("measurements.id"), primary_key=True),
    Column("bitops", Float, primary_key=True, comment="of one sample, body"),
    Column("count", Integer, nullable=False, comment="samples of that cost"),
    comment="how BitOps spread over samples, for allocations chosen per sample",
)
answers = Table(
    "answers",
    metadata,
    Column("measurement_id", ForeignKey("measurements.id"), primary_key=True),
    Column(
        "bits",
        LargeBinary,
        nullable=False,
        comment="one bit per sample in the order of the split, 1 where the answer was right; "
        "the first sample is the highest bit of the first byte",
    ),
    comment="right and wrong image by image on test, where the sweep keeps them",
)
conflicts = Table(
    "conflicts",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("trial_id", "trials.id"),
    Column("epoch", Integer, nullable=False),
    Column("recorded", JSON, nullable=False, comment="the facts that stand"),
    Column("arrived", JSON, nullable=False, comment="the facts that differ"),
    Column("recorded_at", String(32), nullable=False),
    comment="measurements that came again with other facts; none should ever stand here",
)
outcomes = Table(
    "outcomes",
    metadata,
    Column("trial_id", ForeignKey("trials.id"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("epoch", Integer, comment="the last one that was measured"),
    Column("checkpoint", String(64), comment="SHA-256 of the kept checkpoint"),
    _key("sweep_id", "sweeps.id"),
    Column("ended_at", String(32), nullable=False),
    comment="how a trial ended: finished, pruned, diverged, failed or interrupted",
)
comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Integer, primary_key=True),
    _key("sweep_id", "sweeps.id"),
    Column("arm", String(200), nullable=False),
    Column("against", String(200), nullable=False),
    Column("at", String(32), nullable=False, comment="w3a3, learned, or policy:NAME"),
    Column("against_at", String(32), nullable=False, comment="where the other side stands"),
    Column("declared_at", String(32), nullable=False),
    Column("is_primary", Boolean, nullable=False, comment="declared before either was measured"),
    Column("is_current", Boolean, nullable=False),
    UniqueConstraint("sweep_id", "arm", "against", "at", "against_at"),
    comment="claims declared in the sweep file: the family of the Holm correction",
)
published_results = Table(
    "published_results",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("paper", String(200), nullable=False),
    Column("place", String(200), nullable=False, comment="table or figure"),
    Column("dataset", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("method", String(64), nullable=False),
    Column("weight_bits", String(16), nullable=False),
    Column("activation_bits", String(16), nullable=False),
    Column("top1_percent", Float),
    Column("source", Text, nullable=False),
    comment="numbers that papers print; never mixed with ours",
)
