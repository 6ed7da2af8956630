"""Look at a study slice by slice, as in a notebook: the model is opened in one cell, and used in many.

Run it with: python examples/notebook.py model.dtvit study/
"""

# %%
import sys
from pathlib import Path

import pydicom

import dtvit_edge

bundle_path, folder = sys.argv[1:]
model = dtvit_edge.open_model(bundle_path)
print(model, model.description)

# %%
datasets = [pydicom.dcmread(path) for path in sorted(Path(folder).rglob("IM*"))]
for dataset in datasets[::4]:
    row = model.score_dataset(dataset).slices[0]
    print(row.sop_uid, row.status, row.reason, row.ich_probability)

# %%
slices = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in datasets]
prediction = model.predict(model.preprocess(slices[len(slices) // 2]))
print("the slice in the middle:", prediction.ich_probability, prediction.ich_logits)

# %%
for result in model.score_datasets(datasets):
    print("the study:", result.study.status, result.study.flagged, result.study.reason)
model.close()
