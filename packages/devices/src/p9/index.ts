/** Folders of the host, shared with guests. */
export { type P9Config, P9Driver } from "./driver.ts";
