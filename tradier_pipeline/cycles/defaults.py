"""Whether schedules and sensors run unless somebody uses their switches: not in a home that is thrown away.

`dagster dev` without DAGSTER_HOME makes such a home. Cycles of it would read the broker beside those of `up`, which
cannot see them.
"""

import dagster as dg

from tradier_pipeline.instance import in_temporary_home

_RUNNING = not in_temporary_home()
SCHEDULES = dg.DefaultScheduleStatus.RUNNING if _RUNNING else dg.DefaultScheduleStatus.STOPPED
SENSORS = dg.DefaultSensorStatus.RUNNING if _RUNNING else dg.DefaultSensorStatus.STOPPED
