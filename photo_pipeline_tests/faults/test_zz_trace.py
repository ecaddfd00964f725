from photo_pipeline_tests.faults.test_kill_in_each_asset import *
CODE='''
import traceback, contextlib
from photo_pipeline_tests.faults import killed_run as k
from photo_pipeline.core.catalog.database import Database
w=Database.write
@contextlib.contextmanager
def write(self, **o):
    with w(self, **o) as c: yield c
    st=[f for f in traceback.extract_stack() if "photo_pipeline/core" in f.filename]
    print("COMMIT", k._running_asset(), [f.name for f in st][-3:], flush=True)
Database.write=write
for j in ("inventory","migrate","rollback"):
    print("JOB", j, flush=True); k.run(k.Plan(jobs=(j,)))
'''
def test_p(make_scene):
    s=make_scene(0)
    env=os.environ | {"DAGSTER_HOME": str(s.home), "APP_DATABASE_URL": s.site.url, CONFIG_ENV: str(s.site.config_path)}
    r=subprocess.run([sys.executable,"-c",CODE],env=env,capture_output=True,text=True)
    print(r.returncode, r.stderr[-300:]); print(*[l for l in r.stdout.splitlines() if l[:3] in("COM","JOB")],sep="\n")
