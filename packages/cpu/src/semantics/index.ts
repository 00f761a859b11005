/** Every instruction, entered into the table by loading its file. Order matters where encodings are equally specific. */
import "./integer/alu.ts";
import "./integer/shift.ts";
import "./integer/muldiv.ts";
import "./integer/move.ts";
import "./integer/stack.ts";
import "./integer/branch.ts";
import "./integer/bits.ts";
import "./integer/string.ts";
import "./x87/control.ts";
import "./sse/control.ts";
import "./sse/packed.ts";
import "./sse/moves.ts";
import "./sse/aes.ts";
import "./sse/text.ts";
import "./float/arith.ts";
import "./float/integer.ts";
import "./x87/arith.ts";
import "./sse/float.ts";
import "./sse/convert.ts";
import "./sse/compare.ts";
import "../system/transfer.ts";
import "../system/control.ts";
import "../system/msr.ts";
import "../system/io.ts";
import "../system/fpu-state.ts";

export { instructions } from "./define.ts";
