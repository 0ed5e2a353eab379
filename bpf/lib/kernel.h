/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Reads of kernel structures. Every offset is a define OFFSET_<struct>_<member> that the loader takes from the running
 * kernel's BTF; none is guessed.
 */
#ifndef AUTOINSTR_KERNEL_H
#define AUTOINSTR_KERNEL_H

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define SOCK_STREAM 1
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10

/*
 * The helper, by a name of our own: where bcc meets its usual name, it reads all symbols of the kernel to find out whether
 * there is such a helper, once for each use. That took longer than all the rest of compiling.
 */
static long (*read_user)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
#define bpf_probe_read_user read_user

/* The address behind a pointer that the verifier knows as one, as a plain number. */
static __always_inline __u64 address_of(void *sk)
{
	void *volatile slot = sk;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), (void *)&slot);
	return address;
}

static __always_inline __u64 kernel_u64(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u32 kernel_u32(__u64 address)
{
	__u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u16 kernel_u16(__u64 address)
{
	__u16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/*
 * A member of a structure of the kernel, on the hot path. Where the verifier can be told of what type the structure is
 * (Linux 6.2), this is a plain load, many times cheaper than a helper's call; a bad address reads as 0 either way.
 */
#ifdef KFUNC_bpf_rdonly_cast
static void *(*bpf_rdonly_cast)(__u64 address, __u32 type) = (void *)(KFUNC | KFUNC_bpf_rdonly_cast);
#define MEMBER(size, type, address, member)                                                                            \
	(*(__u##size *)(bpf_rdonly_cast(address, BTF_ID_##type) + OFFSET_##type##_##member))
#else
#define MEMBER(size, type, address, member) kernel_u##size((address) + OFFSET_##type##_##member)
#endif

/* Pid of a task's process as the agent's own PID namespace numbers it; 0: not visible there. */
static __always_inline __u32 visible_pid(__u64 task)
{
#ifdef PID_NAMESPACE
	zero_key zero = 0;
	struct control *c = control.lookup((__u32 *)&zero);

	if (!c || !c->pid_namespace)
		return 0;

	__u64 signal = kernel_u64(task + OFFSET_task_struct_signal);
	__u64 pid = kernel_u64(signal + OFFSET_signal_struct_pids + 8); /* [PIDTYPE_TGID] */

	if (kernel_u32(pid + OFFSET_pid_level) < c->pid_level)
		return 0;

	__u64 upid = pid + OFFSET_pid_numbers + SIZE_upid * c->pid_level;

	if (kernel_u64(upid + OFFSET_upid_ns) != c->pid_namespace)
		return 0;
	return kernel_u32(upid + OFFSET_upid_nr);
#else
	return kernel_u32(task + OFFSET_task_struct_tgid);
#endif
}

/* `ids`: what bpf_get_current_pid_tgid() says, for those who want the thread's id, too. */
static __always_inline __u32 pid_of_current(__u64 ids)
{
#ifdef PID_NAMESPACE
	return visible_pid(bpf_get_current_task());
#else
	return ids >> 32;
#endif
}

static __always_inline __u32 current_pid(void)
{
	return pid_of_current(bpf_get_current_pid_tgid());
}

/* Where the current task's program has its first code. */
static __always_inline __u64 first_code(void)
{
	return MEMBER(64, mm_struct, MEMBER(64, task_struct, bpf_get_current_task(), mm), start_code);
}

/* Who makes a system call. */
struct self {
	__u64 task; /* if it was asked for */
	__u32 pid;  /* as pid_of_current() */
	__u32 tid;
};

/* On the hot path: one call of a helper where plain loads tell the rest. */
static __always_inline struct self current_self(void)
{
#ifdef KFUNC_bpf_rdonly_cast
	__u64 task = bpf_get_current_task();
	struct self self = {.task = task, .tid = MEMBER(32, task_struct, task, pid)};
#ifdef PID_NAMESPACE
	self.pid = visible_pid(task);
#else
	self.pid = MEMBER(32, task_struct, task, tgid);
#endif
#else
	__u64 ids = bpf_get_current_pid_tgid();
	struct self self = {.pid = pid_of_current(ids), .tid = ids};
#endif
	return self;
}

/* struct file behind a descriptor of a task; 0: none. */
static __always_inline __u64 file_of(__u64 task, __u32 fd)
{
	__u64 files = MEMBER(64, task_struct, task, files);
	__u64 fdt = MEMBER(64, files_struct, files, fdt);

	if (fd >= MEMBER(32, fdtable, fdt, max_fds))
		return 0;
	/* an element of an array of pointers is a structure of one pointer, too */
	return MEMBER(64, hlist_head, MEMBER(64, fdtable, fdt, fd) + 8 * (__u64)fd, first);
}

static __always_inline __u64 current_file(__u32 fd)
{
	return file_of(bpf_get_current_task(), fd);
}

/* The same, of who is known already. */
static __always_inline __u64 own_file(const struct self *self, __u32 fd)
{
#ifdef KFUNC_bpf_rdonly_cast
	return file_of(self->task, fd);
#else
	return current_file(fd);
#endif
}

/* Does one descriptor, and no more, refer to the file? */
static __always_inline int last_reference(__u64 file)
{
#ifdef OFFSET_file_f_ref
	return kernel_u64(file + OFFSET_file_f_ref) == 0; /* Linux 6.13: counts from 0 */
#else
	return kernel_u64(file + OFFSET_file_f_count) == 1;
#endif
}

/* struct sock of a socket's file. Of another file something that is no struct sock: to be looked up, not to be read. */
static __always_inline __u64 sock_of(__u64 file)
{
	return MEMBER(64, socket, MEMBER(64, file, file, private_data), sk);
}

/* The same, as a number, which may be added to. */
static __always_inline __u64 address_of_sock(__u64 file)
{
	return kernel_u64(kernel_u64(file + OFFSET_file_private_data) + OFFSET_socket_sk);
}

/* Is the file a stream socket (TCP, Unix)? */
static __always_inline int is_stream(__u64 file)
{
	__u64 inode = kernel_u64(file + OFFSET_file_f_inode);

	if ((kernel_u16(inode + OFFSET_inode_i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	return kernel_u16(kernel_u64(file + OFFSET_file_private_data) + OFFSET_socket_type) == SOCK_STREAM;
}

/* Number of the file's inode: for a socket what /proc/<pid>/fd shows. */
static __always_inline __u64 inode_number(__u64 file)
{
	return kernel_u64(kernel_u64(file + OFFSET_file_f_inode) + OFFSET_inode_i_ino);
}

static __always_inline __u16 sock_family(__u64 sk)
{
	return kernel_u16(sk + OFFSET_sock_common_skc_family);
}

/* Is it a socket of Multipath TCP, which is no struct tcp_sock, and has some for its ways? */
static __always_inline int is_multipath(__u64 sk)
{
	return kernel_u16(sk + OFFSET_sock_sk_protocol) == IPPROTO_MPTCP;
}

/* The TCP socket that a connection began with; 0: that is not there any more. */
static __always_inline __u64 first_tcp_of(__u64 sk)
{
	if (!is_multipath(sk))
		return sk;
#ifdef OFFSET_mptcp_sock_first
	return kernel_u64(sk + OFFSET_mptcp_sock_first);
#else
	return 0;
#endif
}

/*
 * Nothing has come from the other end yet, or its address is not even asked for: so it is while a connection is opened,
 * also where a process writes before that (TCP Fast Open).
 */
static __always_inline int is_connecting(__u64 sk)
{
	__u8 state = kernel_u16(sk + OFFSET_sock_common_skc_state);

	return state == TCP_SYN_SENT || state == TCP_CLOSE;
}

/* What came first came before the connection was there, with its SYN (TCP Fast Open). */
static __always_inline int came_early(__u64 sk)
{
	__u8 bits = kernel_u16(sk + OFFSET_tcp_sock_syn_data_acked);

	return bits & BIT_tcp_sock_syn_data_acked;
}

/* An IPv4 address as the IPv6 address ::ffff:a.b.c.d. */
static __always_inline void read_address(__u8 *to, __u64 sk, __u16 family, __u32 v4, __u32 v6)
{
	if (family == AF_INET) {
		__builtin_memset(to, 0, 10);
		to[10] = 0xff;
		to[11] = 0xff;
		bpf_probe_read_kernel(to + 12, 4, (void *)(sk + v4));
	} else {
		bpf_probe_read_kernel(to, 16, (void *)(sk + v6));
	}
}

static __always_inline __u16 local_port(__u64 sk)
{
	__u16 port = kernel_u16(sk + OFFSET_sock_common_skc_num);

	/* a reset takes the first away, and may come before accept() returns */
	return port ? port : __builtin_bswap16(kernel_u16(sk + OFFSET_inet_sock_inet_sport));
}

static __always_inline __u16 remote_port(__u64 sk)
{
	return __builtin_bswap16(kernel_u16(sk + OFFSET_sock_common_skc_dport));
}

static __always_inline void read_local(__u8 *to, __u64 sk, __u16 family)
{
	read_address(to, sk, family, OFFSET_sock_common_skc_rcv_saddr, OFFSET_sock_common_skc_v6_rcv_saddr);
}

static __always_inline void read_remote(__u8 *to, __u64 sk, __u16 family)
{
	read_address(to, sk, family, OFFSET_sock_common_skc_daddr, OFFSET_sock_common_skc_v6_daddr);
}

#endif
