#!/bin/sh
# For `notify` in hastmon.conf: sends a mail for each event. Needs sendmail(8), which every mail server brings along, or a
# small sender such as msmtp or dma.
#
#     notify /usr/local/libexec/hastmon/notify-mail.sh
#
# hastmon writes the event to standard input as one line of JSON, and has its words in the environment. One call at a
# time, ended after 30 s; what it writes to standard error goes to the log of hastmon when it fails.

to=root
from="hastmon@$(hostname)"

{
	printf 'From: %s\nTo: %s\n' "$from" "$to"
	printf 'Subject: [hastmon] %s on %s: %s\n' "${HASTMON_RESOURCE:-hastmon}" "$HASTMON_NODE" "$HASTMON_EVENT"
	printf 'Content-Type: text/plain; charset=utf-8\n\n'
	printf '%s\n\n' "$HASTMON_TEXT"
	printf 'What happened before it: hastmonctl history --since 30m\n\n'
	cat
} | sendmail -t
