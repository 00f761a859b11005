/** Exit statuses of the command. */
export const ExitStatus = {
  ok: 0,
  /** Something of the command itself or its surroundings failed. */
  failed: 1,
  badConfig: 2,
  guestCrashed: 3,
  /** As timeout(1). */
  timedOut: 124,
  interrupted: 130,
  /** As a program that SIGPIPE ends. */
  outputGone: 141,
} as const;

/** The command ends with this status; the message, if any, is for the user. */
export class ExitError extends Error {
  override readonly name = "ExitError";
  readonly status: number;

  constructor(status: number, message = "") {
    super(message);
    this.status = status;
  }
}
