import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# The driver would be found by whatever comes later in the process: these tests are for those of `machine.environment`, which test_ptx.py starts.
collect_ignore_glob = [] if "DRIVER_CACHE" in os.environ else ["test_*.py"]
