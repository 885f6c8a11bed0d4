"""Checks manifests (a YAML stream on standard input) against Kubernetes' schemas, strictly, in the oldest version that
the guide names and in the newest known one. Prints the manifests as JSON; exits with 1 if one does not fit."""

import json
import sys

import kubernetes_validate
import yaml

OLDEST = "1.29"
# Groups of kinds that are not Kubernetes' own. operator.mjs checks the first against schemas of its own; for the others
# there are none to be had.
FOREIGN = ("monitoring.coreos.com/", "alibabacloud.com/", "snapshot.storage.k8s.io/")

documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
versions = [OLDEST, kubernetes_validate.latest_version()]
wrong = False
for document in documents:
    name = f"{document['kind']}/{document['metadata'].get('name')}"
    if document["apiVersion"].startswith(FOREIGN):
        continue
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as fault:
            wrong = True
            print(f"{name} in {version}: {fault}", file=sys.stderr)
json.dump({"versions": versions, "documents": documents}, sys.stdout)
sys.exit(wrong)
