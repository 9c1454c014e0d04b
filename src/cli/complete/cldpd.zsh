#compdef cldpd
# Completion of cldpd for zsh.
_cldpd() {
    local line value
    local -a before lines plain open
    before=("${(@Q)words[1,CURRENT-1]}")
    lines=("${(@f)$(command cldpd __complete zsh -- "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        value=${line%%$'\t'*}
        [[ -n $value ]] || continue
        # A description stands after the first colon that is not escaped.
        if [[ $line == *$'\t'* ]]; then
            line="${value//:/\\:}:${line#*$'\t'}"
        else
            line=${value//:/\\:}
        fi
        if [[ $value == *[=/:] ]]; then
            open+=("$line")
        else
            plain+=("$line")
        fi
    done
    (( $#plain )) && _describe -V 'cldpd' plain
    (( $#open )) && _describe -V 'cldpd' open -S ''
}
if [[ $funcstack[1] == _cldpd ]]; then
    _cldpd "$@"
else
    compdef _cldpd cldpd
fi
