# Completion of hastmonctl for bash. The names of resources and nodes are those of the configuration.

_hastmonctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command='' word i count=0
    local -a options=()
    COMPREPLY=()
    case $prev in
    -c|--config|--control) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    -s|--statedir) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    esac
    # What comes before the cursor: the subcommand, how many words follow it, and which configuration is meant.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $command:$word in
        # Of these, -n is a number.
        drill:-n|history:-n) ((i++)) ;;
        *:-c|*:--config|*:-n|*:--node)
            [ $((i + 1)) -lt "$COMP_CWORD" ] && options+=("$word" "${COMP_WORDS[i+1]}")
            ((i++)) ;;
        *:--control|*:-s|*:--statedir|*:--for|*:--rounds|*:--lines|*:--since|*:--resource) ((i++)) ;;
        *:-*) ;;
        *) if [ -z "$command" ]; then command=$word; else ((count++)); fi ;;
        esac
    done
    local choice=''
    case $command:$prev in
    drill:-n|history:-n|*:--rounds|*:--lines|*:--since|*:--for) ;;
    *:-n|*:--node) choice=$(hastmonctl "${options[@]}" complete-names nodes 2>/dev/null) ;;
    *:--resource) choice=$(hastmonctl "${options[@]}" complete-names resources 2>/dev/null) ;;
    *)
        if [[ $cur == -* ]]; then
            choice='-c --config --control -d --debug -h --help -n --node'
            case $command in
            '') choice+=' -V --version' ;;
            role) choice+=' --force --yes' ;;
            pause) choice+=' --for' ;;
            status) choice+=' --json -w --watch' ;;
            watch) choice+=' -s --statedir' ;;
            history) choice+=' -s --statedir --lines --since --resource --json -f --follow' ;;
            check) choice+=' --run --json' ;;
            test-exec) choice+=' --yes' ;;
            drill) choice+=' --rounds -y --yes --json' ;;
            esac
        else
            case $command:$count in
            :*) choice='role switchover pause resume explain check test-exec drill completion status watch history reload dump' ;;
            role:0) choice='init primary secondary watchdog' ;;
            role:*|status:*|watch:*|pause:*|resume:*) choice="all $(hastmonctl "${options[@]}" complete-names resources 2>/dev/null)" ;;
            switchover:0|drill:0|explain:0|test-exec:0)
                choice=$(hastmonctl "${options[@]}" complete-names resources 2>/dev/null) ;;
            switchover:1|drill:1) choice=$(hastmonctl "${options[@]}" complete-names nodes 2>/dev/null) ;;
            completion:0) choice='bash zsh fish' ;;
            esac
        fi ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choice" -- "$cur")
}

complete -F _hastmonctl hastmonctl
