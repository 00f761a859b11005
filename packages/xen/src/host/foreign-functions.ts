/** Node's foreign functions, for calls of Linux's C library; undefined on other systems, and where Node was built without them. */
export const linuxFunctions = (): typeof import("node:ffi") | undefined =>
  process.platform === "linux" ? process.getBuiltinModule("node:ffi") : undefined;
