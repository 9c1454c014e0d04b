# Completion of cldpd for fish.
function __cldpd_complete
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    command cldpd __complete fish -- $words (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command cldpd --no-files --keep-order --arguments '(__cldpd_complete)'
