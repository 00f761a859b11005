/**
 * Fields of requests and answers. The error of a field is what is expected of it, as the end of a sentence: `validate.ts` puts its name
 * and value before it.
 */
import { z } from "zod";

const only = (expected: string) => ({ error: expected });

export const text = (expected = "text") => z.string(only(expected));
export const flag = () => z.boolean(only("true or false"));
export const matching = (pattern: RegExp, expected: string) => text(expected).regex(pattern, only(expected));
export const absolutePath = () => matching(/^\//, "a path from the root on, beginning with /");
export const anyNumber = () => z.number(only("a number"));

/** Bounds at what JSON can say exactly are not worth a word. */
export function wholeNumber(least = 0, most = Number.MAX_SAFE_INTEGER) {
  const range = most === Number.MAX_SAFE_INTEGER ? `at least ${least}` : `${least} to ${most}`;
  return z
    .int(only(`a whole number, ${range}`))
    .min(least, only(range))
    .max(most, only(range));
}

/** In a query, where everything is text. */
export const writtenWholeNumber = (least: number, most: number) =>
  matching(/^\d{1,9}$/, `a whole number, ${least} to ${most}`)
    .transform(Number)
    .pipe(wholeNumber(least, most));

export const oneOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z.enum(words, only(`one of ${words.join(", ")}`));

/** Absent, or there; never undefined. */
export const optional = <T extends z.ZodType>(schema: T) => z.exactOptional(schema);

/** An object that has no field but these; of requests. */
export const request = <T extends z.ZodRawShape>(shape: T) => z.strictObject(shape, only("an object"));
/** An object that may have more fields in later versions; of answers. */
export const answer = <T extends z.ZodRawShape>(shape: T) => z.object(shape, only("an object"));
export const listOf = <T extends z.ZodType>(item: T) => z.array(item, only("a list"));
