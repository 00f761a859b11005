/** `xeno completion`: what a shell has to know to complete the command. */
import { Argument } from "commander";
import type { AddVerb } from "./verb.ts";

export const addCompletion: AddVerb = (program) => {
  program
    .command("completion")
    .description("print completion for a shell: source <(xeno completion bash)")
    .addArgument(new Argument("<shell>").choices(["bash"]))
    .action(() => {
      const verbs = program.commands.map((command) => command.name()).join(" ");
      const cases = program.commands
        .map((command) => {
          const words = [...command.commands.map((inner) => inner.name()), ...command.options.map(({ long }) => long)];
          return `    ${command.name()}) words="${words.join(" ")}" ;;\n`;
        })
        .join("");
      process.stdout.write(`_xeno() {
  local word="\${COMP_WORDS[COMP_CWORD]}" words=""
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "${verbs}" -- "$word"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases}  esac
  COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
}
complete -o filenames -F _xeno xeno
`);
    });
};
