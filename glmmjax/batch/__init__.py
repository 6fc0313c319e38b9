"""Many fits at once: one formula with many responses or many data sets, on one compiled program."""

from glmmjax.batch.bootstrap import Bootstrap as Bootstrap
from glmmjax.batch.bootstrap import bootstrap as bootstrap
from glmmjax.batch.fitting import fit_many as fit_many
from glmmjax.batch.many import Many as Many
from glmmjax.batch.many import adjust as adjust
from glmmjax.batch.pooling import pool as pool
from glmmjax.batch.power import Power as Power
from glmmjax.batch.power import power as power
from glmmjax.batch.tasks import Chunk as Chunk
from glmmjax.batch.tasks import ManyTask as ManyTask
from glmmjax.batch.tasks import chunks as chunks
