/** From a key's value as it was written to what it means. */
import type { CfgSetting, CfgValue } from "./syntax.ts";

/** What is wrong with a value, as the second half of a sentence. */
export class Complaint extends Error {}

/** @throws Complaint */
export type Reader<T> = (value: CfgValue) => T;

const text: Reader<string> = (value) => {
  if (value.kind !== "atom") throw new Complaint("is a list, expected a string");
  return value.text;
};

export const textThat =
  (isRight: (written: string) => boolean, complaint: string): Reader<string> =>
  (value) => {
    const written = text(value);
    if (!isRight(written)) throw new Complaint(complaint);
    return written;
  };

/** @param unit  how the range's unit is written in the complaint, e.g. " (MiB)" */
export const integer =
  (unit: string, { min, max }: { readonly min: number; readonly max: number }): Reader<number> =>
  (value) => {
    const written = text(value);
    const number = parseInteger(written);
    if (number !== undefined && number >= min && number <= max) return number;
    const found = number === undefined ? `is ${JSON.stringify(written)}` : `is ${number}`;
    throw new Complaint(`${found}, expected ${min} to ${max}${unit}`);
  };

/** @param notYet  words of xl that are understood and refused */
export const oneOf =
  <T extends string>(allowed: readonly T[], notYet: readonly string[]): Reader<T> =>
  (value) => {
    const written = text(value);
    const found = allowed.find((word) => word === written);
    if (found !== undefined) return found;
    const later = notYet.includes(written) ? ", which is not supported yet" : "";
    const expected = allowed.map((word) => `"${word}"`).join(" or ");
    throw new Complaint(`is ${JSON.stringify(written)}${later}, expected ${expected}`);
  };

/**
 * Items of a list, each read by itself; as in xl, one string stands for a list of one.
 * @param what  an item is, for the complaint about one that is a list
 */
export const listOf =
  <T>(what: string, read: (written: string) => T): Reader<T[]> =>
  (value) => {
    const items = value.kind === "list" ? value.items : [value];
    const complaints: string[] = [];
    const values = items.flatMap((item, n) => {
      try {
        if (item.kind === "list") throw new Complaint(`is a list, expected ${what}`);
        return [read(item.text)];
      } catch (error) {
        if (!(error instanceof Complaint)) throw error;
        complaints.push(items.length === 1 ? error.message : `item ${n + 1} ${error.message}`);
        return [];
      }
    });
    if (complaints.length > 0) throw new Complaint(complaints.join("; "));
    return values;
  };

type Values<R> = { [K in keyof R]?: R[K] extends Reader<infer T> ? T : never };

/**
 * Reads the settings that there are readers for.
 * @param mistakes  gets a line for each value that cannot be read
 */
export function readValues<R extends Readonly<Record<string, Reader<unknown>>>>(
  readers: R,
  settings: ReadonlyMap<string, CfgSetting>,
  mistakes: string[],
): Values<R> {
  const values: Record<string, unknown> = {};
  for (const [key, reader] of Object.entries(readers)) {
    const setting = settings.get(key);
    if (setting === undefined) continue;
    try {
      values[key] = reader(setting.value);
    } catch (error) {
      if (!(error instanceof Complaint)) throw error;
      mistakes.push(`${setting.origin}: ${key} ${error.message}`);
    }
  }
  return values as Values<R>;
}

/** Decimal, 0octal or 0xhex, as strtoul reads them; undefined if it is none. */
function parseInteger(written: string): number | undefined {
  if (/^0x[0-9a-f]+$/i.test(written)) return Number.parseInt(written, 16);
  if (/^0[0-7]*$/.test(written)) return Number.parseInt(written, 8);
  return /^[1-9]\d*$/.test(written) ? Number(written) : undefined;
}
