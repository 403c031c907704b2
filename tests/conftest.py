"""Settings of the whole suite. `pytest --hypothesis-profile=deep` looks where the usual run has not been."""

from hypothesis import settings

# derandomised: a run that passes passes again, on any machine
settings.register_profile("usual", deadline=None, derandomize=True, max_examples=60, stateful_step_count=40)
settings.register_profile("brief", settings.get_profile("usual"), max_examples=15)  # for slow, checked builds
settings.register_profile("deep", settings.get_profile("usual"), derandomize=False, max_examples=2000)
settings.load_profile("usual")
