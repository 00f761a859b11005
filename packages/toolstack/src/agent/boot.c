/*
 * The first program of a ramdisk whose only work is to find the root disk: loads the modules that it needs, mounts it, and
 * becomes its init. Included by agent.c; see ../images/disk-ramdisk.ts.
 *
 *   /modules/order   names of modules in /modules, each before a NUL, in the order in which they are loaded
 *
 * Of the kernel's command line it heeds root=/dev/NAME, rootfstype=, rootflags=, rw and init=.
 */
enum { SYS_mount = 165, SYS_finit_module = 313 };
enum { MS_RDONLY = 1, MS_MOVE = 8192, EEXIST = 17 };

/* The root disk appears some milliseconds after its driver was loaded; the host may take its time to connect it. */
enum { ROOT_POLL_NS = 5000000, ROOT_TRIES = 6000 };

static i64 mount_at(const char *what, const char *where, const char *type, u64 flags, const char *data) {
  i64 result;
  register i64 r10 __asm__("r10") = flags;
  register const char *r8 __asm__("r8") = data;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(SYS_mount), "D"(what), "S"(where), "d"(type), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

static void nap(u64 ns) {
  u64 pause[2] = {0, ns};
  call2(SYS_nanosleep, pause, 0);
}

/* Leaves the message on the screen: behind it the kernel panics, for its first process has ended. */
static void stop(const char *what, const char *which) {
  call3(SYS_write, 2, "xeno: ", 6);
  call3(SYS_write, 2, what, length(what));
  call3(SYS_write, 2, which, length(which));
  die("\n");
}

static void load_modules(void) {
  static char order[4096], path[4096];
  i64 size = read_file("/modules/order", order, sizeof order - 1);
  memcpy(path, "/modules/", 9);
  for (const char *name = order; size > 0 && name < order + size; name += length(name) + 1) {
    memcpy(path + 9, name, length(name) + 1);
    i64 fd = call3(SYS_open, path, O_CLOEXEC, 0);
    i64 failed = fd < 0 ? fd : call3(SYS_finit_module, fd, "", 0);
    if (failed < 0 && failed != -EEXIST) stop("cannot load the module ", name);
    call1(SYS_close, fd);
    call1(SYS_unlink, path);
  }
}

/* The value of the last word NAME=VALUE; its end is made a NUL. */
static char *word_of(char *line, const char *name) {
  char *found = 0;
  u64 n = length(name);
  for (char *at = line; *at;) {
    while (*at == ' ' || *at == '\n') at++;
    char *word = at;
    while (*at && *at != ' ' && *at != '\n') at++;
    u64 same = 0;
    while (same < n && word[same] == name[same]) same++;
    if (same == n) found = word + n;
  }
  return found;
}

static void cut(char *word) {
  if (!word) return;
  while (*word && *word != ' ' && *word != '\n') word++;
  *word = 0;
}

__attribute__((noreturn)) static void boot(char **argv, char **env) {
  static char line[4096];
  mount_at("dev", "/dev", "devtmpfs", 0, 0);
  mount_at("proc", "/proc", "proc", 0, 0);
  i64 size = read_file("/proc/cmdline", line, sizeof line - 1);
  if (size < 0) stop("/proc cannot be read", "");
  load_modules();
  char *root = word_of(line, "root="), *type = word_of(line, "rootfstype="), *flags = word_of(line, "rootflags=");
  char *init = word_of(line, "init="), *writable = word_of(line, "rw");
  int read_only = !(writable && (*writable == ' ' || *writable == '\n' || !*writable));
  cut(root), cut(type), cut(flags), cut(init);
  if (!root || root[0] != '/') stop("root= names no disk, expected such as root=/dev/xvda", "");
  i64 failed = -ENOENT;
  for (u32 tries = 0; tries < ROOT_TRIES && failed == -ENOENT; tries++) {
    if (tries > 0) nap(ROOT_POLL_NS);
    failed = mount_at(root, "/root", type ? type : "ext4", read_only ? MS_RDONLY : 0, flags);
  }
  if (failed < 0) stop(failed == -ENOENT ? "there is no disk " : "cannot be mounted: ", root);
  mount_at("/dev", "/root/dev", 0, MS_MOVE, 0);
  mount_at("/proc", "/root/proc", 0, MS_MOVE, 0);
  call1(SYS_chdir, "/root");
  if (mount_at(".", "/", 0, MS_MOVE, 0) < 0 || call1(SYS_chroot, ".") < 0) stop("cannot be made the root: ", root);
  call1(SYS_chdir, "/");
  argv[0] = init ? init : "/sbin/init";
  call3(SYS_execve, argv[0], argv, env);
  stop("cannot be executed: ", argv[0]);
  __builtin_unreachable();
}
