// Checks the Prometheus Operator's kinds among manifests (JSON on standard input) against the operator's own schemas.
// Prints their number; exits with 1 if one does not fit.

import { readFileSync } from "node:fs";
import { PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const KINDS = { PrometheusRule, ServiceMonitor };
const { documents } = JSON.parse(readFileSync(0, "utf8"));
const ours = documents.filter((one) => one.apiVersion.startsWith("monitoring.coreos.com/"));
for (const document of ours) {
  try {
    new KINDS[document.kind](document).validate();
  } catch (fault) {
    console.error(`${document.kind}/${document.metadata.name}: ${fault.message}`);
    process.exitCode = 1;
  }
}
console.log(ours.length);
