export * from "./behaviours.ts";
export { Area, buildGuest, GuestAssembler, type GuestMode, LOAD_ADDRESS, ShutdownReason } from "./guest.ts";
export * from "./hostile.ts";
