/**
 * The syntax of xl.cfg: `key = value` settings, divided by newlines or semicolons.
 *
 * Values are strings in single or double quotes (no escapes), numbers (decimal, 0octal, 0xhex) and lists in brackets,
 * which may span lines, nest and end in a comma. `key += value` appends to a string or a list. `#` starts a comment.
 *
 * @see xl.cfg(5)
 */

export type CfgValue = CfgAtom | CfgList;

/** A string or a number as it was written; which of the two is wanted is the key's affair, as in xl. */
export interface CfgAtom {
  readonly kind: "atom";
  readonly text: string;
  readonly quoted: boolean;
}

export interface CfgList {
  readonly kind: "list";
  readonly items: readonly CfgValue[];
}

export interface CfgSetting {
  readonly key: string;
  readonly value: CfgValue;
  /** Where it was set, for messages: "guest.cfg:3" or "command line". */
  readonly origin: string;
}

/** A configuration that cannot be used. One message may have several lines, one per mistake. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

const TOKEN =
  /(?<skip>[ \t\r]+|#[^\n]*)|(?<end>[\n;])|(?<string>"[^"\n]*"|'[^'\n]*')|(?<number>\d[\da-fA-FxX]*)|(?<word>[A-Za-z_]\w*)|(?<mark>\+=|[=,[\]])/y;

type TokenKind = "end" | "string" | "number" | "word" | "mark" | "eof";

interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  readonly line: number;
}

/**
 * Reads a configuration.
 * @param name  what messages call it
 * @returns     settings by key; a later one replaces an earlier one
 * @throws      ConfigError  with line number, what was found and what was expected
 */
export function parseCfg(text: string, name: string): Map<string, CfgSetting> {
  const parser = new Parser(tokenise(text, name), name);
  const settings = new Map<string, CfgSetting>();
  for (;;) {
    const setting = parser.setting();
    if (setting === undefined) return settings;
    assign(settings, setting.key, setting.value, setting.append, setting.origin);
  }
}

/**
 * Applies `key=value` arguments on top of a configuration, as xl does. What is not in xl's syntax counts as a string,
 * so that a shell's quotes suffice: `cmdline="console=hvc0 quiet"`.
 * @throws ConfigError  an argument has no "=" or a malformed key
 */
export function applyOverrides(settings: Map<string, CfgSetting>, overrides: readonly string[]): void {
  for (const override of overrides) {
    const match = /^\s*([A-Za-z_]\w*)\s*(\+?=)(.*)$/s.exec(override);
    if (match === null) {
      throw new ConfigError(`command line: ${JSON.stringify(override)} is no setting, expected key=value`);
    }
    const [, key, operator, rest] = match as unknown as [string, string, string, string];
    assign(settings, key, overrideValue(rest), operator === "+=", "command line");
  }
}

function overrideValue(text: string): CfgValue {
  try {
    const [only] = parseCfg(`value = ${text}`, "").values();
    if (only !== undefined && only.key === "value") return only.value;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
  }
  return { kind: "atom", text: text.trim(), quoted: true };
}

function assign(
  settings: Map<string, CfgSetting>,
  key: string,
  value: CfgValue,
  append: boolean,
  origin: string,
): void {
  const before = settings.get(key)?.value;
  if (!append || before === undefined) {
    settings.set(key, { key, value, origin });
    return;
  }
  if (before.kind !== value.kind) {
    throw new ConfigError(
      `${origin}: ${key} += appends a ${nameOf(value)} to a ${nameOf(before)}, expected two of a kind`,
    );
  }
  const joined: CfgValue =
    before.kind === "list" && value.kind === "list"
      ? { kind: "list", items: [...before.items, ...value.items] }
      : { kind: "atom", text: (before as CfgAtom).text + (value as CfgAtom).text, quoted: true };
  settings.set(key, { key, value: joined, origin });
}

const nameOf = (value: CfgValue): string => (value.kind === "list" ? "list" : "string");

function tokenise(text: string, name: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    const match = TOKEN.exec(text);
    if (match === null) {
      const rest = text.slice(at).split("\n", 1)[0]!;
      const what = /^["']/.test(rest) ? `string ${rest} has no closing quote` : `found ${JSON.stringify(rest[0])}`;
      throw new ConfigError(`${name}:${line}: ${what}, expected a setting such as memory = 256`);
    }
    const [kind, value] = Object.entries(match.groups!).find(([, group]) => group !== undefined)!;
    if (kind !== "skip") tokens.push({ kind: kind as TokenKind, text: value!, line });
    if (value === "\n") line++;
  }
  tokens.push({ kind: "eof", text: "", line });
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #name: string;
  #at = 0;

  constructor(tokens: readonly Token[], name: string) {
    this.#tokens = tokens;
    this.#name = name;
  }

  /** The next setting; undefined at the end. */
  setting(): { key: string; value: CfgValue; append: boolean; origin: string } | undefined {
    while (this.#peek().kind === "end") this.#at++;
    const key = this.#take();
    if (key.kind === "eof") return undefined;
    if (key.kind !== "word") this.#unexpected(key, "a key");
    const operator = this.#take();
    if (operator.text !== "=" && operator.text !== "+=") this.#unexpected(operator, `"=" after ${key.text}`);
    const value = this.#value(`a value for ${key.text}: a quoted string, a number or a [list]`);
    const after = this.#take();
    if (after.kind !== "end" && after.kind !== "eof")
      this.#unexpected(after, `the end of the line after ${key.text}'s value`);
    return { key: key.text, value, append: operator.text === "+=", origin: `${this.#name}:${key.line}` };
  }

  #value(expected: string): CfgValue {
    const token = this.#take();
    if (token.kind === "string") return { kind: "atom", text: token.text.slice(1, -1), quoted: true };
    if (token.kind === "number") return { kind: "atom", text: token.text, quoted: false };
    if (token.text === "[") return this.#list();
    return this.#unexpected(token, expected);
  }

  #list(): CfgList {
    const items: CfgValue[] = [];
    for (;;) {
      this.#skipNewlines();
      if (this.#peek().text === "]") break;
      items.push(this.#value('a value or "]"'));
      this.#skipNewlines();
      if (this.#peek().text === "]") break;
      const comma = this.#take();
      if (comma.text !== ",") this.#unexpected(comma, '"," or "]" in the list');
    }
    this.#at++;
    return { kind: "list", items };
  }

  #skipNewlines(): void {
    while (this.#peek().text === "\n") this.#at++;
  }

  #peek(): Token {
    return this.#tokens[this.#at]!;
  }

  #take(): Token {
    const token = this.#peek();
    if (token.kind !== "eof") this.#at++;
    return token;
  }

  #unexpected(token: Token, expected: string): never {
    const found =
      token.kind === "eof" ? "the end of the file" : token.text === "\n" ? "the end of the line" : token.text;
    throw new ConfigError(`${this.#name}:${token.line}: found ${found}, expected ${expected}`);
  }
}
