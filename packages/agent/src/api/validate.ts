/** Holds what a request says against its schema; what does not fit is one sentence for each field. */
import type { z } from "zod";
import { AgentError } from "../home.ts";

type Issue = z.core.$ZodIssue;

/** Longer values are cut in messages. */
const MAX_VALUE_LENGTH = 80;

/**
 * @param what  what messages call the whole: "body", "query"
 * @throws AgentError  400
 */
export function checkedBy<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  throw new AgentError(400, error.issues.flatMap((issue) => sentences(issue, value, what)).join("\n"));
}

function sentences(issue: Issue, root: unknown, what: string): string[] {
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownField([...issue.path, key]));
  // Of a union, the form that was meant is the one that fits best.
  const forms = issue.code === "invalid_union" && issue.path.length === 0 ? issue.errors : [];
  if (forms.length > 0) {
    const strangeness = forms.map((form) => form.reduce((sum, issue) => sum + (isMissing(issue, root) ? FAR : 1), 0));
    const meant = forms[strangeness.indexOf(Math.min(...strangeness))]!;
    return meant.flatMap((inner) => sentences(inner, root, what));
  }
  const name = issue.path.length === 0 ? what : issue.path.join(".");
  const value = valueAt(root, issue.path);
  const found = value === undefined ? "is missing" : `is ${shown(value)}`;
  return [`${name} ${found}, expected ${issue.message}`];
}

const unknownField = (path: readonly PropertyKey[]): string => `${path.join(".")} is no field of this request`;

/** A field that is missing counts more against a form than any number that do not fit. */
const FAR = 100;
const isMissing = ({ code, path }: Issue, root: unknown): boolean =>
  code !== "unrecognized_keys" && path.length === 1 && valueAt(root, path) === undefined;

const valueAt = (root: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((of, key) => (of as Record<PropertyKey, unknown> | null | undefined)?.[key], root);

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
}
