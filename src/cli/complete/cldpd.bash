# Completion of cldpd for bash.
_cldpd() {
    local word=${2-} piece last current strip line index
    local -a words=()
    # Bash takes words apart at = and :, which are parts of ours.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        piece=${COMP_WORDS[index]}
        if ((index == COMP_CWORD)) && [[ -n $word || $piece != [=:]* ]]; then
            piece=$word
        fi
        last=${#words[@]}
        if [[ -n $piece ]] && ((last > 0)) &&
            [[ $piece == [=:]* || ${words[last - 1]} == *[=:] ]] &&
            [[ $COMP_LINE == *"${words[last - 1]}$piece"* ]]; then
            words[last - 1]+=$piece
        else
            words+=("$piece")
        fi
    done
    current=${words[${#words[@]} - 1]}
    strip=${current%"$word"}
    COMPREPLY=()
    while IFS= read -r line; do
        printf -v line %q "${line#"$strip"}"
        COMPREPLY+=("$line")
    done < <(command cldpd __complete bash -- "${words[@]}" 2>/dev/null)
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
# Where cldpd knows nothing, files are meant.
complete -o nosort -o bashdefault -o default -F _cldpd cldpd 2>/dev/null ||
    complete -o bashdefault -o default -F _cldpd cldpd
