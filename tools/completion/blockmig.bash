# SPDX-License-Identifier: Apache-2.0
# Completion for bash: `source tools/completion/blockmig.bash`, or put it into
# /usr/share/bash-completion/completions/ under the names of both programs. Commands and options are
# what --help says, disks what the daemon serves: nothing to keep up to date here.

# The commands, or with a group ("bitmap") its commands, of a page of help.
_blockmig_commands() {
    "$@" --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\)[, ].*/\1/p'
}

_blockmig_options() {
    "$@" --help 2>/dev/null | grep -oE '^  (-[a-z],)?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

# Of "disks" or "jobs": the ids in the daemon that the line names.
_blockmig_names() {
    timeout 2 "$1" "${state[@]}" ls "$2" -o jsonl 2>/dev/null | sed -nE 's/^\{"(name|id)":"([^"]*)".*/\2/p'
}

_blockmig_values() {
    case $2 in
        -o|--output) echo table wide json jsonl ;;
        --mode) echo auto cold snapshot dbt mirror postcopy hybrid shared return ;;
        --on-stall) echo mirror throttle postcopy fail ;;
        --verify) echo none digest full ;;
        --priority) echo low normal high ;;
        --on-target-error) echo retry pause fail ;;
        --on-restart) echo resume pause abort ;;
        --hydrate) echo background on-demand never ;;
        --reverse-mirror) echo on off ;;
        --cache) echo buffered map direct ;;
        --tls) echo off on require ;;
        --loop) echo auto io_uring portable ;;
        --log) echo auto text json systemd ;;
        --log-level) echo debug info warning error ;;
    esac
}

_blockmig() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local -a command=() state=()
    local i found
    for ((i = 1; i < COMP_CWORD; ++i)); do
        case ${COMP_WORDS[i]} in
            --state-dir) state=(--state-dir "${COMP_WORDS[++i]}") ;;
            -*) ;;
            *) if [[ ${#command[@]} == 0 || ${#command[@]} == 1 && ${command[0]} =~ ^(bitmap|manifest)$ ]]; then
                   command+=("${COMP_WORDS[i]}")
               fi ;;
        esac
    done
    if [[ $before == -* ]]; then
        found=$(_blockmig_values "$program" "$before")
    fi
    if [[ -z $found && $word == -* ]]; then
        found=$(_blockmig_options "$program" "${command[@]}")
    elif [[ -z $found && $before != --* && $program != *blockmigd ]]; then
        case ${command[*]} in
            ""|bitmap|manifest) found=$(_blockmig_commands "$program" "${command[@]}") ;;
            help) found="$(_blockmig_commands "$program") limits" ;;
            ls) found="disks jobs clients" ;;
            serve|manifest*|force-own) ;;
            status|abort|pause|resume|set) found=$(_blockmig_names "$program" disks; _blockmig_names "$program" jobs) ;;
            migrate|settle|backup|detach|verify|bitmap*) found=$(_blockmig_names "$program" disks) ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$found" -- "$word")
}

complete -o default -F _blockmig blockmig blockmigd
