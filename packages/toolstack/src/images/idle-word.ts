/** On the kernel's command line: a container's guest waits for commands in place of starting the image's program. */
export const IDLE_WORD = "xeno.idle";
