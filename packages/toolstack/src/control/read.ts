import { Complaint } from "../cfg/readers.ts";
import { ControlError } from "./protocol.ts";

/** @throws ControlError  for what a reader of configurations complains about */
export function read<T>(what: string, reader: () => T): T {
  try {
    return reader();
  } catch (error) {
    if (error instanceof Complaint) throw new ControlError("invalid", `${what} ${error.message}`);
    throw error;
  }
}
