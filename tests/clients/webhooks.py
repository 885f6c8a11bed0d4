"""The library of Standard Webhooks against deliveries, which come as JSON on standard input."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
for delivery in given["deliveries"]:
    for secret in given["secrets"]:
        payload = Webhook(secret).verify(delivery["body"], delivery["headers"])
        assert payload["type"].startswith("task."), payload
    for wrong in (delivery["body"] + " ", delivery["body"].replace("task.", "mask.")):
        try:
            Webhook(given["secrets"][0]).verify(wrong, delivery["headers"])
        except WebhookVerificationError:
            continue
        raise AssertionError("a body that was changed is taken")
print(len(given["deliveries"]), "deliveries are verified")
