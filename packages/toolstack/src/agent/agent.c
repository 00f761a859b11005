/*
 * The program inside of a guest that runs commands for its host, over a console that needs no network.
 *
 *   agent serve DEVICE [DEFAULTS]   serves the host; DEVICE is a terminal, or "-" for standard input and output
 *   agent run SPEC                  becomes the process that a file describes
 *   /init                           as a ramdisk's first program, finds the root disk; see boot.c
 *
 * A static program without a C library, so that it runs in any Linux system, or in none. What it speaks is described in
 * protocol.ts; how it becomes the committed program, in build-agent.ts.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

#define PAYLOAD_MAX 1024
#define EXECS 64
#define STDIN_ROOM 4096
#define SPEC_MAX 131072
#define WORDS_MAX 4096
#define SEED_MAX 64

enum { SYS_read, SYS_write, SYS_open, SYS_close, SYS_poll = 7, SYS_ioctl = 16, SYS_dup2 = 33, SYS_nanosleep = 35, SYS_fork = 57,
       SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill, SYS_fcntl = 72, SYS_chdir = 80, SYS_rename = 82,
       SYS_unlink = 87, SYS_fchmod = 91, SYS_setuid = 105, SYS_setgid = 106, SYS_setsid = 112, SYS_setgroups = 116,
       SYS_chroot = 161, SYS_sync, SYS_reboot = 169, SYS_signalfd4 = 289, SYS_pipe2 = 293, SYS_rt_sigprocmask = 14, SYS_rt_sigaction = 13,
       SYS_getrandom = 318 };
enum { SYS_fchown = 93, F_SETFL = 4, F_DUPFD_CLOEXEC = 1030 };
enum { TIOCSCTTY = 0x540e, TIOCSWINSZ = 0x5414, TIOCSPTLCK = 0x40045431, TIOCGPTPEER = 0x5441, RNDADDENTROPY = 0x40085203,
       RNDRESEEDCRNG = 0x5207 };
enum { EINTR = 4, EAGAIN = 11, ENOENT = 2, ENOEXEC = 8, EACCES = 13, ENOTDIR = 20, EINVAL = 22, E2BIG = 7, EBUSY = 16 };
enum { O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_TRUNC = 01000, O_NOCTTY = 0400, O_NONBLOCK = 04000,
       O_CLOEXEC = 02000000 };
enum { SIGPIPE = 13, SIGCHLD = 17, SIG_BLOCK = 0, SIG_UNBLOCK = 1 };
enum { POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16 };

/* From the host, and to it. */
enum { SPEC = 1, START, STDIN, SIGNAL, CREDIT, RESIZE, RESEED };
enum { STARTED = 1, FAILED, STDOUT, STDERR, EXIT, ROOM };

static inline i64 call(i64 n, i64 a, i64 b, i64 c, i64 d) {
  i64 result;
  register i64 r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}
#define call1(n, a) call(n, (i64)(a), 0, 0, 0)
#define call2(n, a, b) call(n, (i64)(a), (i64)(b), 0, 0)
#define call3(n, a, b, c) call(n, (i64)(a), (i64)(b), (i64)(c), 0)

/* The compiler may ask for these by itself. */
void *memcpy(void *to, const void *from, u64 count) {
  for (u64 n = 0; n < count; n++) ((u8 *)to)[n] = ((const u8 *)from)[n];
  return to;
}
void *memset(void *to, int byte, u64 count) {
  for (u64 n = 0; n < count; n++) ((volatile u8 *)to)[n] = byte;
  return to;
}
void *memmove(void *to, const void *from, u64 count) {
  if (to <= from) return memcpy(to, from, count);
  while (count-- > 0) ((u8 *)to)[count] = ((const u8 *)from)[count];
  return to;
}
static u64 length(const char *text) {
  u64 n = 0;
  while (text[n]) n++;
  return n;
}
static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}
static int has_slash(const char *text) {
  for (; *text; text++) if (*text == '/') return 1;
  return 0;
}
/* Reads digits, and leaves the text behind them. */
static u32 number(const char **text, u32 base) {
  u32 value = 0;
  while (**text >= '0' && **text <= '9') value = value * base + (*(*text)++ - '0');
  return value;
}

static void die(const char *message) {
  call3(SYS_write, 2, message, length(message));
  call1(SYS_exit, 1);
  __builtin_unreachable();
}

static i64 write_all(int fd, const void *bytes, u64 count) {
  for (u64 done = 0; done < count;) {
    i64 n = call3(SYS_write, fd, (const u8 *)bytes + done, count - done);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      struct { int fd; short events, revents; } wait = {fd, POLLOUT, 0};
      call3(SYS_poll, &wait, 1, -1);
      continue;
    }
    if (n <= 0) return n;
    done += n;
  }
  return count;
}

/* What a process is to be: strings, each behind a letter and before a NUL. */
struct spec {
  char *args[WORDS_MAX], *env[WORDS_MAX];
  u32 nargs, nenv;
  char *root, *cwd, *user;
  char *terminal; /* "columns rows" */
  char builtin;
};

static u64 name_length(const char *word) {
  u64 n = 0;
  while (word[n] && word[n] != '=') n++;
  return n;
}

static void add_env(struct spec *spec, char *word) {
  u64 n = name_length(word);
  for (u32 i = 0; i < spec->nenv; i++) {
    if (name_length(spec->env[i]) != n) continue;
    u64 at = 0;
    while (at < n && spec->env[i][at] == word[at]) at++;
    if (at == n) {
      spec->env[i] = word;
      return;
    }
  }
  if (spec->nenv < WORDS_MAX - 1) spec->env[spec->nenv++] = word;
}

/* Later words take the place of earlier ones. */
static int parse(struct spec *spec, char *text, u64 size) {
  if (size == 0) return 0;
  if (text[size - 1] != 0) return -EINVAL;
  for (char *word = text; word < text + size; word += length(word) + 1) {
    switch (word[0]) {
      case 'a':
        if (spec->nargs >= WORDS_MAX - 1) return -E2BIG;
        spec->args[spec->nargs++] = word + 1;
        break;
      case 'e': add_env(spec, word + 1); break;
      case 'r': spec->root = word + 1; break;
      case 'c': spec->cwd = word + 1; break;
      case 'u': spec->user = word + 1; break;
      case 'b': spec->builtin = word[1]; break;
      case 't': spec->terminal = word + 1; break;
      default: return -EINVAL;
    }
  }
  return 0;
}

static int read_file(const char *path, char *into, u64 room) {
  i64 fd = call3(SYS_open, path, O_CLOEXEC, 0);
  if (fd < 0) return fd;
  u64 size = 0;
  for (;;) {
    i64 n = call3(SYS_read, fd, into + size, room - size);
    if (n < 0) size = 0;
    if (n <= 0) break;
    size += n;
  }
  call1(SYS_close, fd);
  return size;
}

/* "uid gid gid…": the first group is the process's own. */
static i64 become(const char *user) {
  u32 groups[65], count = 0;
  u32 uid = number(&user, 10);
  while (*user == ' ' && count < 65) {
    user++;
    groups[count++] = number(&user, 10);
  }
  i64 failed = count > 0 ? call2(SYS_setgroups, count, groups) : call2(SYS_setgroups, 0, 0);
  if (failed < 0) return failed;
  if (count > 0 && (failed = call1(SYS_setgid, groups[0])) < 0) return failed;
  return call1(SYS_setuid, uid);
}

/* As execvp: a name without a slash is looked for along PATH. */
static i64 execute(struct spec *spec) {
  static char path[8192];
  const char *name = spec->args[0];
  if (has_slash(name)) return call3(SYS_execve, name, spec->args, spec->env);
  const char *dirs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (u32 i = 0; i < spec->nenv; i++) {
    const char *word = spec->env[i];
    if (word[0] == 'P' && word[1] == 'A' && word[2] == 'T' && word[3] == 'H' && word[4] == '=') dirs = word + 5;
  }
  i64 result = -ENOENT;
  for (;;) {
    u64 n = 0;
    while (dirs[n] && dirs[n] != ':') n++;
    if (n > 0 && n + length(name) + 2 < sizeof path) {
      memcpy(path, dirs, n);
      path[n] = '/';
      memcpy(path + n + 1, name, length(name) + 1);
      i64 failed = call3(SYS_execve, path, spec->args, spec->env);
      if (failed != -ENOENT && failed != -ENOTDIR) result = failed;
      if (result != -ENOENT && result != -EACCES) return result;
    }
    if (!dirs[n]) return result;
    dirs += n + 1;
  }
}

static i64 copy(int from, int to) {
  static u8 buffer[65536];
  for (;;) {
    i64 n = call3(SYS_read, from, buffer, sizeof buffer);
    if (n == -EINTR) continue;
    if (n <= 0) return n;
    i64 failed = write_all(to, buffer, n);
    if (failed < 0) return failed;
  }
}

/* A file takes its name when it is whole. */
static i64 put(const char *path, const char *mode) {
  static char partial[8192];
  u64 n = length(path);
  if (n + 10 > sizeof partial) return -EINVAL;
  memcpy(partial, path, n);
  memcpy(partial + n, ".partial~", 10);
  i64 fd = call3(SYS_open, partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return fd;
  i64 failed = copy(0, fd);
  if (failed >= 0) failed = call2(SYS_fchmod, fd, number(&mode, 8));
  call1(SYS_close, fd);
  if (failed >= 0) failed = call2(SYS_rename, partial, path);
  if (failed < 0) call1(SYS_unlink, partial);
  return failed;
}

static i64 get(const char *path) {
  i64 fd = call3(SYS_open, path, O_CLOEXEC, 0);
  return fd < 0 ? fd : copy(fd, 1);
}

struct action { u64 handler, flags, restorer, mask; };

/* Becomes the process. Returns an error's number, negative. */
static i64 enter(struct spec *spec) {
  i64 failed;
  u64 mask = 1UL << (SIGCHLD - 1);
  struct action as_usual = {0, 0, 0, 0};
  call(SYS_rt_sigprocmask, SIG_UNBLOCK, (i64)&mask, 0, 8);
  call(SYS_rt_sigaction, SIGPIPE, (i64)&as_usual, 0, 8);
  if (spec->root) {
    if ((failed = call1(SYS_chroot, spec->root)) < 0) return failed;
    call1(SYS_chdir, "/");
  }
  if (spec->user && (failed = become(spec->user)) < 0) return failed;
  if (spec->cwd && (failed = call1(SYS_chdir, spec->cwd)) < 0) return failed;
  spec->args[spec->nargs] = 0;
  spec->env[spec->nenv] = 0;
  if (spec->nargs == 0) return -EINVAL;
  if (spec->builtin == 'o') {
    call1(SYS_sync, 0);
    call1(SYS_exit, -call3(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc));
  }
  if (spec->builtin == 'p' || spec->builtin == 'g') {
    i64 result = spec->builtin == 'p' ? put(spec->args[0], spec->nargs > 1 ? spec->args[1] : "644") : get(spec->args[0]);
    call1(SYS_exit, result < 0 ? -result : 0);
  }
  return execute(spec);
}

struct exec {
  u32 id;
  int pid;
  int in, out, err; /* ours; -1 when closed */
  u32 credit;       /* what the host takes of output */
  u32 held;         /* bytes of input that wait */
  u8 ends;          /* input ends behind them */
  u8 terminal;      /* in and out are a terminal's; there is no err */
  u8 input[STDIN_ROOM];
};

static struct exec execs[EXECS];
static char defaults[SPEC_MAX], request[SPEC_MAX];
static u32 defaults_size, request_size;
static int line_in, line_out;

static void send(u8 type, u32 id, const void *payload, u16 size) {
  u8 frame[8 + PAYLOAD_MAX];
  frame[0] = 0xe7;
  frame[1] = type;
  memcpy(frame + 2, &size, 2);
  memcpy(frame + 4, &id, 4);
  memcpy(frame + 8, payload, size);
  if (write_all(line_out, frame, 8 + size) < 0) die("agent: the line is gone\n");
}

static void send_number(u8 type, u32 id, u32 value) { send(type, id, &value, 4); }

static struct exec *find(u32 id) {
  for (int n = 0; n < EXECS; n++) if (execs[n].pid && execs[n].id == id) return &execs[n];
  return 0;
}

static void close_fd(int *fd) {
  if (*fd >= 0) call1(SYS_close, *fd);
  *fd = -1;
}

static i64 pipes(int ends[3][2]) {
  for (int n = 0; n < 3; n++) ends[n][0] = ends[n][1] = -1;
  for (int n = 0; n < 3; n++) {
    i64 failed = call2(SYS_pipe2, ends[n], O_CLOEXEC);
    if (failed < 0) return failed;
  }
  return 0;
}

static void set_size(int terminal, u16 columns, u16 rows) {
  u16 size[4] = {rows, columns, 0, 0};
  call3(SYS_ioctl, terminal, TIOCSWINSZ, size);
}

/* A terminal in place of pipes: ends as `pipes` has them, the process's end three times. */
static i64 terminal(const struct spec *spec, int ends[3][2]) {
  static char path[4096 + 16];
  const char *text = spec->terminal;
  u64 n = spec->root ? length(spec->root) : 0;
  int locked = 0;
  for (int i = 0; i < 3; i++) ends[i][0] = ends[i][1] = -1;
  if (n > 4096) return -EINVAL;
  /* Beside the terminals that the process will see. */
  memcpy(path, spec->root, n);
  memcpy(path + n, "/dev/ptmx", 10);
  i64 ours = call3(SYS_open, path, O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
  if (ours < 0) return ours;
  ends[1][0] = ours;
  i64 failed = call3(SYS_ioctl, ours, TIOCSPTLCK, &locked);
  if (failed < 0) return failed;
  u32 columns = number(&text, 10);
  if (*text == ' ') text++;
  set_size(ours, columns, number(&text, 10));
  i64 theirs = call3(SYS_ioctl, ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (theirs < 0) return theirs;
  ends[0][0] = theirs;
  if (spec->user) {
    const char *user = spec->user;
    call3(SYS_fchown, theirs, number(&user, 10), -1);
  }
  i64 input = call3(SYS_fcntl, ours, F_DUPFD_CLOEXEC, 3);
  if (input < 0) return input;
  ends[0][1] = input;
  return 0;
}

static void start(u32 id) {
  static struct spec spec;
  int ends[3][2], report[2] = {-1, -1};
  struct exec *exec = 0;
  for (int n = 0; n < EXECS && !exec; n++) if (!execs[n].pid) exec = &execs[n];
  memset(&spec, 0, sizeof spec);
  i64 failed = parse(&spec, defaults, defaults_size);
  if (failed >= 0) failed = parse(&spec, request, request_size);
  if (failed >= 0 && !exec) failed = -EBUSY;
  i64 made = failed >= 0 && spec.terminal ? terminal(&spec, ends) : pipes(ends);
  if (failed >= 0) failed = made;
  if (failed >= 0) failed = call2(SYS_pipe2, report, O_CLOEXEC);
  i64 pid = failed < 0 ? failed : call1(SYS_fork, 0);
  if (pid == 0) {
    call1(SYS_setsid, 0);
    if (spec.terminal) call3(SYS_ioctl, ends[0][0], TIOCSCTTY, 0);
    call2(SYS_dup2, ends[0][0], 0);
    call2(SYS_dup2, spec.terminal ? ends[0][0] : ends[1][1], 1);
    call2(SYS_dup2, spec.terminal ? ends[0][0] : ends[2][1], 2);
    for (int n = 0; n < 3; n++) close_fd(&ends[n][0]), close_fd(&ends[n][1]);
    /* What this process holds of the others' pipes would keep them open while a builtin runs. */
    for (int n = 0; n < EXECS; n++) {
      if (!execs[n].pid) continue;
      close_fd(&execs[n].in);
      close_fd(&execs[n].out);
      close_fd(&execs[n].err);
    }
    call1(SYS_close, report[0]);
    if (spec.builtin) close_fd(&report[1]);
    int result = enter(&spec);
    write_all(report[1], &result, 4);
    call1(SYS_exit, 127);
  }
  close_fd(&ends[0][0]);
  close_fd(&ends[1][1]);
  close_fd(&ends[2][1]);
  close_fd(&report[1]);
  if (pid > 0) {
    int result;
    i64 n;
    do n = call3(SYS_read, report[0], &result, 4);
    while (n == -EINTR);
    if (n == 4) {
      call(SYS_wait4, pid, 0, 0, 0);
      pid = result;
    }
  }
  close_fd(&report[0]);
  if (pid < 0) {
    for (int n = 0; n < 3; n++) close_fd(&ends[n][0]), close_fd(&ends[n][1]);
    send_number(FAILED, id, -pid);
    return;
  }
  exec->id = id;
  exec->pid = pid;
  exec->in = ends[0][1];
  exec->out = ends[1][0];
  exec->err = ends[2][0];
  exec->credit = exec->held = exec->ends = 0;
  exec->terminal = spec.terminal != 0;
  call3(SYS_fcntl, exec->in, F_SETFL, O_NONBLOCK);
  send_number(STARTED, id, pid);
  send_number(ROOM, id, STDIN_ROOM);
}

static void feed(struct exec *exec) {
  while (exec->held > 0 && exec->in >= 0) {
    i64 n = call3(SYS_write, exec->in, exec->input, exec->held);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) return;
    if (n < 0) {
      /* Nobody reads any more: the rest is thrown away, as with a closed pipe. */
      n = exec->held;
      close_fd(&exec->in);
    }
    exec->held -= n;
    memmove(exec->input, exec->input + n, exec->held);
    send_number(ROOM, exec->id, n);
  }
  if (!exec->ends || exec->held > 0) return;
  /* A terminal has no end; Ctrl-D is how its reader learns of one. */
  if (exec->terminal && exec->in >= 0) write_all(exec->in, "\4", 1);
  close_fd(&exec->in);
}

static void take_input(struct exec *exec, const u8 *bytes, u32 size) {
  if (size == 0) exec->ends = 1;
  if (exec->in < 0) {
    if (size > 0) send_number(ROOM, exec->id, size);
    return;
  }
  if (size > STDIN_ROOM - exec->held) size = STDIN_ROOM - exec->held;
  memcpy(exec->input + exec->held, bytes, size);
  exec->held += size;
  feed(exec);
}

/* One piece. Returns whether there may be more. */
static int drain(struct exec *exec, u8 type, int *fd) {
  u8 piece[PAYLOAD_MAX];
  u32 room = exec->credit < PAYLOAD_MAX ? exec->credit : PAYLOAD_MAX;
  if (*fd < 0 || room == 0) return 0;
  i64 n = call3(SYS_read, *fd, piece, room);
  if (n == -EINTR || n == -EAGAIN) return n == -EINTR;
  if (n <= 0) {
    close_fd(fd);
    send(type, exec->id, 0, 0);
    return 0;
  }
  exec->credit -= n;
  send(type, exec->id, piece, n);
  return 1;
}

/* A copy of a machine would go on with the same random numbers as the others; these bytes of its host's are its own. */
static void reseed(const u8 *bytes, u32 size) {
  struct { int bits, size; u8 bytes[SEED_MAX]; } seed;
  i64 fd = call3(SYS_open, "/dev/urandom", O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  if (size > SEED_MAX) size = SEED_MAX;
  seed.bits = size * 8;
  seed.size = size;
  memcpy(seed.bytes, bytes, size);
  call3(SYS_ioctl, fd, RNDADDENTROPY, &seed);
  call3(SYS_ioctl, fd, RNDRESEEDCRNG, 0);
  call1(SYS_close, fd);
}

static void message(u8 type, u32 id, const u8 *payload, u32 size) {
  struct exec *exec = find(id);
  u32 value = 0;
  if (size >= 4) memcpy(&value, payload, 4);
  switch (type) {
    case SPEC:
      if (request_size + size > SPEC_MAX) size = 0, request_size = SPEC_MAX;
      memcpy(request + request_size, payload, size);
      request_size += size;
      break;
    case START:
      start(id);
      request_size = 0;
      break;
    case STDIN: if (exec) take_input(exec, payload, size); break;
    case SIGNAL: if (exec) call2(SYS_kill, -exec->pid, value); break;
    case CREDIT: if (exec) exec->credit += value; break;
    case RESEED: reseed(payload, size); break;
    case RESIZE: if (exec && exec->terminal) set_size(exec->out, value & 0xffff, value >> 16); break;
  }
}

/* Whose process has ended: its status waits until all that it wrote has gone. */
static struct { int pid, status; } ended[EXECS];

static void reap(void) {
  for (;;) {
    int status;
    i64 pid = call(SYS_wait4, -1, (i64)&status, 1, 0);
    if (pid <= 0) return;
    for (int n = 0; n < EXECS; n++) {
      if (execs[n].pid != pid) continue;
      ended[n].pid = pid;
      ended[n].status = status;
      /* What runs on behind it may hold the pipes open for ever: only what is in them now is waited for. */
      if (execs[n].out >= 0) call3(SYS_fcntl, execs[n].out, F_SETFL, O_NONBLOCK);
      if (execs[n].err >= 0) call3(SYS_fcntl, execs[n].err, F_SETFL, O_NONBLOCK);
    }
  }
}

static void finish(int n) {
  struct exec *exec = &execs[n];
  while (drain(exec, STDOUT, &exec->out) || drain(exec, STDERR, &exec->err));
  /* Without credit nothing was read, and there may be more. */
  if (exec->credit == 0 && (exec->out >= 0 || exec->err >= 0)) return;
  close_fd(&exec->in);
  close_fd(&exec->out);
  close_fd(&exec->err);
  send_number(EXIT, exec->id, ended[n].status);
  exec->pid = ended[n].pid = 0;
}

static const char HELLO[16] = "XENO-AGENT-1 <->";

/* Says hello until the host repeats this program's own number, and throws away what was meant for one before it. */
static void greet(void) {
  static u8 hello[2048 + 24];
  u8 window[24];
  u32 seen = 0;
  memset(hello, 0, sizeof hello);
  memcpy(hello + 2048, HELLO, 16);
  call3(SYS_getrandom, hello + 2048 + 16, 8, 0);
  /* Zeros first: they fill up what a program that died may have left unfinished. */
  if (write_all(line_out, hello, sizeof hello) < 0) die("agent: the line is gone\n");
  for (;;) {
    u8 byte;
    i64 n = call3(SYS_read, line_in, &byte, 1);
    if (n == -EINTR) continue;
    if (n <= 0) die("agent: the line ended\n");
    memmove(window, window + 1, 23);
    window[23] = byte;
    if (seen < 24) seen++;
    u32 at = 0;
    while (at < 24 && window[at] == hello[2048 + at]) at++;
    if (seen == 24 && at == 24) return;
  }
}

static u8 inbox[8 + PAYLOAD_MAX];
static u32 inbox_size;

static void receive(void) {
  i64 n = call3(SYS_read, line_in, inbox + inbox_size, sizeof inbox - inbox_size);
  if (n == -EINTR || n == -EAGAIN) return;
  if (n <= 0) die("agent: the line ended\n");
  inbox_size += n;
  u32 at = 0;
  while (inbox_size - at >= 8) {
    u16 size;
    u32 id;
    memcpy(&size, inbox + at + 2, 2);
    memcpy(&id, inbox + at + 4, 4);
    if (inbox[at] != 0xe7 || size > PAYLOAD_MAX) die("agent: the host does not speak this protocol\n");
    if (inbox_size - at < 8 + (u32)size) break;
    message(inbox[at + 1], id, inbox + at + 8, size);
    at += 8 + size;
  }
  inbox_size -= at;
  memmove(inbox, inbox + at, inbox_size);
}

struct pollfd { int fd; short events, revents; };

static void serve(void) {
  static struct pollfd fds[2 + 3 * EXECS];
  u64 mask = 1UL << (SIGCHLD - 1);
  struct action ignore = {1, 0, 0, 0};
  call(SYS_rt_sigprocmask, SIG_BLOCK, (i64)&mask, 0, 8);
  call(SYS_rt_sigaction, SIGPIPE, (i64)&ignore, 0, 8);
  i64 children = call(SYS_signalfd4, -1, (i64)&mask, 8, O_CLOEXEC | O_NONBLOCK);
  if (children < 0) die("agent: no signalfd\n");
  greet();
  for (;;) {
    u32 count = 2;
    fds[0] = (struct pollfd){line_in, POLLIN, 0};
    fds[1] = (struct pollfd){children, POLLIN, 0};
    for (int n = 0; n < EXECS; n++) {
      struct exec *exec = &execs[n];
      if (!exec->pid) continue;
      int flows = exec->credit > 0;
      fds[count++] = (struct pollfd){exec->held > 0 ? exec->in : -1, POLLOUT, 0};
      fds[count++] = (struct pollfd){flows ? exec->out : -1, POLLIN, 0};
      fds[count++] = (struct pollfd){flows ? exec->err : -1, POLLIN, 0};
    }
    call3(SYS_poll, fds, count, -1);
    u32 at = 2;
    for (int n = 0; n < EXECS; n++) {
      struct exec *exec = &execs[n];
      if (!exec->pid) continue;
      if (fds[at++].revents) feed(exec);
      if (fds[at++].revents) drain(exec, STDOUT, &exec->out);
      if (fds[at++].revents) drain(exec, STDERR, &exec->err);
    }
    if (fds[1].revents) {
      u8 info[128];
      while (call3(SYS_read, children, info, sizeof info) > 0);
      reap();
    }
    if (fds[0].revents) receive();
    for (int n = 0; n < EXECS; n++) if (ended[n].pid) finish(n);
  }
}

static void open_line(const char *device) {
  struct { u32 iflag, oflag, cflag, lflag; u8 line, cc[19]; } mode;
  line_in = 0;
  line_out = 1;
  if (same(device, "-")) return;
  i64 fd = -1;
  /* The device's name may be there before what is behind it. */
  for (int tries = 0; tries < 50 && fd < 0; tries++) {
    u64 pause[2] = {0, 200000000};
    if (tries > 0) call2(SYS_nanosleep, pause, 0);
    fd = call3(SYS_open, device, O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
  }
  if (fd < 0) die("agent: its line to the host cannot be opened\n");
  line_in = line_out = fd;
  if (call3(SYS_ioctl, fd, 0x5401, &mode) < 0) return; /* no terminal */
  mode.iflag = mode.oflag = mode.lflag = 0;
  mode.cflag = 0x30 | 0x80 | 0x800 | 0xf; /* eight bits, reads, no modem */
  mode.cc[5] = 0;
  mode.cc[6] = 1;
  call3(SYS_ioctl, fd, 0x5402, &mode);
}

static void run(const char *path) {
  static struct spec spec;
  i64 size = read_file(path, request, SPEC_MAX);
  if (size < 0 || parse(&spec, request, size) < 0) die("agent: the description of the process cannot be read\n");
  i64 failed = enter(&spec);
  die(failed == -ENOENT || failed == -ENOTDIR ? "agent: the program or its folder is not in the image\n"
      : failed == -EACCES                     ? "agent: the program may not be executed\n"
      : failed == -ENOEXEC                    ? "agent: the program is of another kind\n"
                                              : "agent: the program cannot be executed\n");
}

#include "boot.c"

__attribute__((used)) void begin(u64 *stack) {
  u64 argc = stack[0];
  char **argv = (char **)(stack + 1);
  if (argc > 0 && same(argv[0], "/init")) boot(argv, argv + argc + 1);
  if (argc == 3 && same(argv[1], "run")) run(argv[2]);
  if ((argc != 3 && argc != 4) || !same(argv[1], "serve")) die("usage: agent serve DEVICE [DEFAULTS] | agent run SPEC\n");
  if (argc == 4) {
    i64 size = read_file(argv[3], defaults, SPEC_MAX);
    if (size < 0) die("agent: its defaults cannot be read\n");
    defaults_size = size;
  }
  open_line(argv[2]);
  serve();
}

__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call begin\n");
