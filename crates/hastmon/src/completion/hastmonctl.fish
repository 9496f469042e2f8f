# Completion of hastmonctl for fish. The names of resources and nodes are those of the configuration.

set -l commands role switchover pause resume explain check test-exec drill completion status watch history reload dump
complete -c hastmonctl -f
complete -c hastmonctl -s c -l config -r -F -d 'Configuration'
complete -c hastmonctl -l control -r -F -d 'Control socket'
complete -c hastmonctl -s d -l debug -d 'Tell more'
complete -c hastmonctl -l node -x -a '(hastmonctl complete-names nodes 2>/dev/null)' -d 'Act as this node'
# Of these, -n is a number.
complete -c hastmonctl -n 'not __fish_seen_subcommand_from drill history' -s n -x -a '(hastmonctl complete-names nodes 2>/dev/null)' -d 'Act as this node'
complete -c hastmonctl -s h -l help -d 'Help'
complete -c hastmonctl -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'Version'
complete -c hastmonctl -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c hastmonctl -n '__fish_seen_subcommand_from role' -a 'init primary secondary watchdog'
complete -c hastmonctl -n '__fish_seen_subcommand_from role' -l force -d 'Do not wait for votes'
complete -c hastmonctl -n '__fish_seen_subcommand_from role test-exec' -l yes -d 'Do not ask'
complete -c hastmonctl -n '__fish_seen_subcommand_from drill' -s y -l yes -d 'Do not ask'
complete -c hastmonctl -n '__fish_seen_subcommand_from role status watch pause resume' -a all
complete -c hastmonctl -n '__fish_seen_subcommand_from role status watch pause resume switchover drill explain test-exec' -a '(hastmonctl complete-names resources 2>/dev/null)'
complete -c hastmonctl -n '__fish_seen_subcommand_from switchover drill' -a '(hastmonctl complete-names nodes 2>/dev/null)'
complete -c hastmonctl -n '__fish_seen_subcommand_from pause' -l for -x -d 'Resume by itself after this time'
complete -c hastmonctl -n '__fish_seen_subcommand_from status check history drill' -l json -d 'As JSON'
complete -c hastmonctl -n '__fish_seen_subcommand_from status' -s w -l watch -d 'As it changes'
complete -c hastmonctl -n '__fish_seen_subcommand_from watch history' -s s -l statedir -r -F -d 'State directory'
complete -c hastmonctl -n '__fish_seen_subcommand_from drill' -s n -l rounds -x -d 'There and back so often'
complete -c hastmonctl -n '__fish_seen_subcommand_from history' -s n -l lines -x -d 'The last events alone'
complete -c hastmonctl -n '__fish_seen_subcommand_from history' -l since -x -d 'Events since then alone'
complete -c hastmonctl -n '__fish_seen_subcommand_from history' -l resource -x -a '(hastmonctl complete-names resources 2>/dev/null)' -d 'Events of this resource alone'
complete -c hastmonctl -n '__fish_seen_subcommand_from history' -s f -l follow -d 'Go on with what happens'
complete -c hastmonctl -n '__fish_seen_subcommand_from check' -l run -d 'Call status of each script'
complete -c hastmonctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
