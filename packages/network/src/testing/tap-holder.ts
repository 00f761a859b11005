/** A process that opens a tap as its arguments say, in JSON, tells its name, and holds it until it is ended. */
import { openTap, type TapConfig } from "../tap/interface.ts";

console.log(openTap(JSON.parse(process.argv[2]!) as TapConfig).name);
setInterval(() => {}, 60_000);
