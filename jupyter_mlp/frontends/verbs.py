"""The verbs, in the order of the flow: what each takes, and the one call it makes. Magics and command line are made from this table."""

from __future__ import annotations

from jupyter_mlp.frontends.arguments import Verb
from jupyter_mlp.frontends.data_verbs import DATA_VERBS
from jupyter_mlp.frontends.look_verbs import LOOK_VERBS
from jupyter_mlp.frontends.model_verbs import MODEL_VERBS
from jupyter_mlp.frontends.repeat_verbs import REPEAT_VERBS
from jupyter_mlp.frontends.schedule_verbs import SCHEDULE_VERBS
from jupyter_mlp.frontends.train_verbs import TRAIN_VERBS

VERBS: tuple[Verb, ...] = (*DATA_VERBS, *TRAIN_VERBS, *MODEL_VERBS, *REPEAT_VERBS, *SCHEDULE_VERBS, *LOOK_VERBS)
