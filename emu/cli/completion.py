# `emu completion`: scripts for bash, zsh and fish, made from the same tables that read the command line.
from ..base.errors import UsageError
from .main import VERBS, no_options
from .options import OPTIONS

SHELLS = ("bash", "zsh", "fish")


def completion_command(arguments: list[str]) -> int:
    """Runs `emu completion SHELL`."""
    no_options(arguments, "completion", "|".join(SHELLS), ("--help", "-h"))
    if "--help" in arguments or "-h" in arguments:
        print('usage: emu completion bash|zsh|fish\n\nfor bash: eval "$(emu completion bash)"')
        return 0
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise UsageError("emu completion", "needs the name of a shell", ", ".join(SHELLS))
    verbs = " ".join(VERBS)
    options = " ".join(name for option in OPTIONS if not option.later for name in option.names if name.startswith("--"))
    if arguments[0] == "fish":
        print(f"complete -c emu -n __fish_use_subcommand -f -a '{verbs}'")
        for option in OPTIONS:
            if not option.later and option.names[0].startswith("--"):
                text = option.help.replace("\\", "\\\\").replace("'", "\\'")
                print(f"complete -c emu -n '__fish_seen_subcommand_from run' -l {option.names[0][2:]} -d '{text}'")
        return 0
    if arguments[0] == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(f"""_emu() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}}
    if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W '{verbs}' -- "$word")); return; fi
    case $verb in
        run) case $word in -*) COMPREPLY=($(compgen -W '{options}' -- "$word"));; *) COMPREPLY=($(compgen -f -- "$word"));; esac;;
        *) COMPREPLY=($(compgen -f -- "$word"));;
    esac
}}
complete -o filenames -F _emu emu""")
    return 0
