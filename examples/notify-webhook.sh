#!/bin/sh
# For `notify` in hastmon.conf: posts each event as it is, a JSON object, to a web server. Needs curl.
#
#     notify /usr/local/libexec/hastmon/notify-webhook.sh
#
# The address usually has a secret in it: it stands in a file that root alone can read.

url=$(cat /usr/local/etc/hastmon-webhook.url) || exit 78
exec curl -fsS --retry 2 --max-time 20 -o /dev/null -H 'Content-Type: application/json' --data-binary @- "$url"
