/** Devices: the handshake between a guest's driver and a backend, and what the toolstack may ask of a device. */
export { XenbusBackend } from "./backend.ts";
export type { Device, SavedDevice } from "./device.ts";
export {
  type BackendDriver,
  type BackendHost,
  type ConnectContext,
  type Connection,
  DeviceError,
  type FrontendKeys,
  type Nodes,
} from "./driver.ts";
export {
  BACKEND_DOMID,
  type DeviceClass,
  type DevicePaths,
  devicePaths,
  parseXenbusState,
  XenbusState,
  xenbusStateName,
} from "./protocol.ts";
