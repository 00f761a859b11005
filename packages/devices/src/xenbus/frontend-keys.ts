/** Reads what a guest's driver wrote about itself. */
import type { LocalClient } from "@xenoserver/xenstore";
import { DeviceError, type FrontendKeys } from "./driver.ts";

export function frontendKeys(store: LocalClient, folder: string, name: string): FrontendKeys {
  const read = (key: string): string | undefined => store.read(`${folder}/${key}`);
  return {
    read,
    readUnsigned(key, { min = 0, max, absent }) {
      const text = read(key);
      if (text === undefined && absent !== undefined) return absent;
      const value = text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
      if (value !== undefined && value >= min && value <= max) return value;
      const found = text === undefined ? "missing" : JSON.stringify(text.slice(0, 40));
      throw new DeviceError(`${name}: ${key} is ${found}, expected ${min} to ${max}`);
    },
  };
}
