import copy, sys, time, tempfile, os, json
from pathlib import Path
import pytest
from photo_pipeline_tests.sites import ITEM_PHOTOS, item_photo
def source(name):
    s = copy.deepcopy(ITEM_PHOTOS); s["name"]=name
    s["where"]=[{"column":"original_url","op":"like","value":f"/{name}/%"}]
    s["fields"]=[{"kind":"url","column":"original_url","root":name,"role":"primary","variant":"full"}]
    return s
def test_try(make_site, shared_photos, s3_access_log):
    files=[f"/{f}/{p.name}" for f in ("real","hostile") for p in sorted((shared_photos/f).iterdir())]
    site=make_site(photos=0, rows=[item_photo(n,v) for n,v in enumerate(files)], sources=[source("real"),source("hostile")],
      roots=[{"name":n,"dir":str(shared_photos/n),"url_prefixes":[f"/{n}/"]} for n in ("real","hostile")])
    t=time.time(); 
    with site.project() as project:
        inv,b=site.inventory(project); print(inv.by_class, b, time.time()-t)
    out=site.migrate(); print("migrate", time.time()-t)
    for o in out: print(o.seconds, o.processed.quarantined, o.processed.missed_targets, o.state)
    for r in site.execute("SELECT path,class,class_detail,state,error_type,error_detail FROM pp_photo WHERE state!='migrated'"): print(tuple(r))
    for r in site.execute("SELECT key,bytes,met_target,variant,format,width,height FROM pp_object WHERE NOT met_target or (variant='full' and bytes>102400)"): print(tuple(r))
    t=time.time(); site.migrate(); print("second", time.time()-t)
    t=time.time(); site.roll_back(); print("rollback", time.time()-t)
