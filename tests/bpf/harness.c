// SPDX-License-Identifier: Apache-2.0
// The kernel side's framing and pairing as a shared library: bcc's maps and the helpers that it uses, in user space.
//
// What is emulated is only what surrounds the code: maps that never fill, memory that can always be read, and no limit
// of tail calls but the one that the code sets itself.
#include <linux/types.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define BPF_F_MMAPABLE 0
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2

#define PROCESS_RING_PAGES 1
#define MAX_CONNECTIONS 64
#define MAX_PIPELINED 512
#define MAX_HTTP2 4
#define MAX_STREAMS 512
#define MAX_AGGREGATES 64
#define MAX_TLS_THREADS 64
#define MAX_TLS_WORKS 64
#define MAX_CIPHERTEXTS 64
#define MAX_CONTEXTS 64
#define MAX_HANDLERS 16
#define MAX_OFFERS 64
#define MAX_NAMES 16
#define MAX_POOL_WORKS 16
#define PROBE_COPIES 1

#define DURATION_BOUNDS(X) X(0ULL)X(5000000ULL)X(10000000ULL)X(25000000ULL)X(50000000ULL)X(75000000ULL)X(100000000ULL)X(250000000ULL)X(500000000ULL)X(750000000ULL)X(1000000000ULL)X(2500000000ULL)X(5000000000ULL)X(7500000000ULL)X(10000000000ULL)
#define SIZE_BOUNDS(X) X(0ULL)X(32ULL)X(64ULL)X(128ULL)X(256ULL)X(512ULL)X(1024ULL)X(2048ULL)X(4096ULL)X(8192ULL)

// A map of at most `n` entries, searched from the front.
#define TABLE(key_type, leaf_type, name, n)                                                                            \
	static struct {                                                                                                \
		int used[n];                                                                                           \
		key_type keys[n];                                                                                      \
		leaf_type leaves[n];                                                                                   \
	} name##_data;                                                                                                 \
	static leaf_type *name##_lookup(const void *key)                                                               \
	{                                                                                                              \
		for (int i = 0; i < (n); i++)                                                                          \
			if (name##_data.used[i] && !memcmp(&name##_data.keys[i], key, sizeof(key_type)))               \
				return &name##_data.leaves[i];                                                         \
		return NULL;                                                                                           \
	}                                                                                                              \
	static int name##_update(const void *key, const void *leaf)                                                    \
	{                                                                                                              \
		leaf_type *there = name##_lookup(key);                                                                 \
		for (int i = 0; !there && i < (n); i++)                                                                \
			if (!name##_data.used[i]) {                                                                    \
				name##_data.used[i] = 1;                                                               \
				memcpy(&name##_data.keys[i], key, sizeof(key_type));                                   \
				there = &name##_data.leaves[i];                                                        \
			}                                                                                              \
		if (!there)                                                                                            \
			return -1;                                                                                     \
		memmove(there, leaf, sizeof(leaf_type));                                                               \
		return 0;                                                                                              \
	}                                                                                                              \
	static int name##_insert(const void *key, const void *leaf)                                                    \
	{                                                                                                              \
		return name##_lookup(key) ? -1 : name##_update(key, leaf);                                             \
	}                                                                                                              \
	static int name##_delete(const void *key)                                                                      \
	{                                                                                                              \
		for (int i = 0; i < (n); i++)                                                                          \
			if (name##_data.used[i] && !memcmp(&name##_data.keys[i], key, sizeof(key_type))) {             \
				name##_data.used[i] = 0;                                                               \
				return 0;                                                                              \
			}                                                                                              \
		return -1;                                                                                             \
	}                                                                                                              \
	static struct {                                                                                                \
		leaf_type *(*lookup)(const void *);                                                                    \
		int (*update)(const void *, const void *);                                                             \
		int (*insert)(const void *, const void *);                                                             \
		int (*delete)(const void *);                                                                           \
	} name = {name##_lookup, name##_update, name##_insert, name##_delete};

// An array of one element.
#define ONE(leaf_type, name)                                                                                           \
	static leaf_type name##_leaf;                                                                                  \
	static leaf_type *name##_lookup(const void *key)                                                               \
	{                                                                                                              \
		return &name##_leaf;                                                                                   \
	}                                                                                                              \
	static struct {                                                                                                \
		leaf_type *(*lookup)(const void *);                                                                    \
	} name = {name##_lookup};

#define BPF_F_TABLE(type, key_type, leaf_type, name, n, flags) ONE(leaf_type, name)
#define BPF_TABLE(type, key_type, leaf_type, name, n) TABLE(key_type, leaf_type, name, n)
#define BPF_HASH(name, key_type, leaf_type, n) TABLE(key_type, leaf_type, name, n)
#define BPF_ARRAY(name, leaf_type, n) ONE(leaf_type, name)
#define BPF_PERCPU_ARRAY(name, leaf_type, n) ONE(leaf_type, name)

static jmp_buf tail_call; // does not return
static void call_step(void *ctx, int index)
{
	longjmp(tail_call, 1 + index);
}
#define BPF_PROG_ARRAY(name, n)                                                                                        \
	static struct {                                                                                                \
		void (*call)(void *, int);                                                                             \
	} name = {call_step};

static int ring_is_full;
static int output(void *record, u64 size, u64 flags);
static void *reserve(u64 size);
static void put(void *record, u64 flags);
#define BPF_RINGBUF_OUTPUT(name, pages)                                                                                \
	static struct {                                                                                                \
		int (*ringbuf_output)(void *, u64, u64);                                                               \
		void *(*ringbuf_reserve)(u64);                                                                         \
		void (*ringbuf_submit)(void *, u64);                                                                   \
	} name = {output, reserve, put};

static long bpf_probe_read_kernel(void *to, u32 size, const void *from)
{
	memmove(to, from, size);
	return 0;
}

static u64 now;

static u64 bpf_ktime_get_ns(void)
{
	return now;
}

static u32 bpf_get_smp_processor_id(void)
{
	return 0;
}

static u32 bpf_get_prandom_u32(void)
{
	return rand();
}

static u32 thread_at_work = 43;

static u64 bpf_get_current_pid_tgid(void)
{
	return 42ULL << 32 | thread_at_work;
}

static u64 unreadable; // an address from which nothing can be read

static long bpf_probe_read_user(void *to, u32 size, const void *from)
{
	if ((u64)from <= unreadable && unreadable < (u64)from + size)
		return -14;
	memmove(to, from, size);
	return 0;
}

#define PROPAGATE_GO

#include "include/events.h"
#include "lib/http1.h"
#include "maps.h"

// what lib/kernel.h has; nothing of the kernel is here, so no connection has a pair but by know_it_by()
#define OFFSET_tcp_sock_snd_una 0
#define OFFSET_tcp_sock_bytes_acked 0
#define OFFSET_tcp_sock_rcv_nxt 0
#define OFFSET_tcp_sock_bytes_received 0
static u32 kernel_u32(u64 address)
{
	return 0;
}
static u64 kernel_u64(u64 address)
{
	return 0;
}
static u64 first_tcp_of(u64 sk)
{
	return sk;
}
static int is_connecting(u64 sk)
{
	return 0;
}
static int came_early(u64 sk)
{
	return 0;
}
static u64 first_code(void)
{
	return 0;
}
static long bpf_get_current_comm(void *to, u32 size)
{
	return -1;
}
static unsigned short local_port(u64 sk)
{
	return 0;
}

#include "lib/python.h"
#include "lib/traceparent.h"
#include "lib/trace.h"
#include "lib/runtimes.h"
#include "lib/executions.h"
#include "lib/loops.h"
#include "lib/offers.h"
#include "lib/place.h"
#include "lib/submitted.h"
#include "lib/exchange.h"
#include "lib/stream.h"
#include "lib/http2.h"
#include "lib/frames.h"

static struct exchange told[100000];
static int told_count;

static void *reserve(u64 size)
{
	return ring_is_full || told_count == sizeof(told) / sizeof(told[0]) ? NULL : &told[told_count];
}

static void put(void *record, u64 flags)
{
	told_count++;
}

static int output(void *record, u64 size, u64 flags)
{
	void *to = reserve(size);

	if (!to)
		return -1;
	memcpy(to, record, size);
	put(to, flags);
	return 0;
}

static struct connection connection;
static int is_socket; // else plaintext of TLS: what its calls move is looked at by other programs from the beginning

void open_connection(int role, int fresh, int socket)
{
	memset(&connection, 0, sizeof(connection));
	memset(&pipelined_data, 0, sizeof(pipelined_data));
	memset(&http2_connections_data, 0, sizeof(http2_connections_data));
	memset(&streams_data, 0, sizeof(streams_data));
	memset(&connections_data, 0, sizeof(connections_data));
	memset(&contexts_data, 0, sizeof(contexts_data));
	memset(&runtimes_data, 0, sizeof(runtimes_data));
	memset(&lenders_data, 0, sizeof(lenders_data));
	memset(&loops_data, 0, sizeof(loops_data));
	thread_at_work = 43;
	memset(&offers_data, 0, sizeof(offers_data));
	memset(&work_owners_leaf, 0, sizeof(work_owners_leaf));
	memset(&submitted_data, 0, sizeof(submitted_data));
	memset(&counters_leaf, 0, sizeof(counters_leaf));
	memset(&works_leaf, 0xee, sizeof(works_leaf)); // whatever other connections have left there
	connection.role = role;
	connection.fresh = fresh;
	connection.slot.role = role;
	connection.slot.protocol = PROTOCOL_HTTP1;
	told_count = 0;
	ring_is_full = 0;
	is_socket = socket;
	now = 1000;
}

static struct work *new_work(int incoming, u64 size)
{
	struct work *w = &works_leaf;

	w->sock = 1;
	w->pid = 42;
	w->tid = thread_at_work;
	w->fd = 5;
	w->incoming = incoming;
	w->side = (connection.role == ROLE_CLIENT) == incoming ? SIDE_RESPONSE : SIDE_REQUEST;
	w->time = ++now;
	w->position = 0;
	w->size = size;
	w->opaque = 0;
	w->messages_left = 0;
	w->entering = 0;
	w->steps = 0;
	w->skipped = 0;
	w->cut = 0;
	w->settled = w->kept = w->kept_size = 0;
	w->begun = w->several = w->answered = 0;
	w->goroutine = 0;
	return w;
}

/* What `lost` in probes/syscalls.h does; returns the step to go on with, or STEPS. */
static int look_at_lost(struct work *w)
{
	int http2 = begins_http2(&connection, w);

	if (http2)
		return become_http2(&connection, w, http2) ? STEP_FRAMES : STEPS;
	return go_on_lost(&connection, w) ? STEP_LOOK : STEPS;
}

static void look_until_done(struct work *w)
{
	static int calls, step; // survive the jumps

	if (connection.ignored)
		return;
	calls = 0;
	step = setjmp(tail_call);
	step = step ? step - 1 : first_step(&connection);
	if (calls++ > 33)
		return;
	switch (step) {
	case STEP_CHUNKS:
		while (skip_chunks(&connection, w) && ++w->steps < MAX_STEPS)
			calls++;
		call_step(NULL, STEP_LOOK);
	case STEP_LOST:
		step = look_at_lost(w);
		if (step != STEPS)
			call_step(NULL, step);
		break;
	case STEP_FRAMES:
		look_at_frames(NULL, &connection, http2_of(&connection, w->sock), w);
		break;
	case STEP_AGGREGATE:
		aggregate_exchanges((struct exchange *)w->window, 1);
		call_step(NULL, STEP_FRAMES);
	case STEP_PLACE_STREAMS:
		for (; w->begun; w->begun--)
			place_stream(&connection, http2_of(&connection, w->sock), w, w->streams[w->begun - 1]);
		if (w->answered && w->next == STEPS)
			place_answer(&connection, http2_of(&connection, w->sock), w);
		call_step(NULL, w->next);
	case STEP_PLACE: {
		struct exchange *x = request_numbered(&connection, w->sock, w->streams[0]);

		if (x && connection.role == ROLE_CLIENT)
			place_call(&connection, w, x);
		else if (x)
			place_served(&connection, w, x);
		break;
	}
	case STEPS: /* there is no such program: goes on behind the call */
		break;
	case STEP_LOOK:
		if (calls == 1 && is_socket)
			look_at_first(NULL, &connection, w);
		else
			look_at_call(NULL, &connection, w);
	}
}

/* One read or write of these bytes. */
void move(int incoming, const char *data, u64 size)
{
	struct work *w = new_work(incoming, size);

	use_buffer(w, (u64)data);
	look_until_done(w);
}

/* A client of HTTP/2 begins a write. */
void enter(void)
{
	struct work *w = new_work(0, 0);

	enter_frames(&connection, w);
}

/* One readv or writev: `sizes` cut the data into buffers, of which the first `moved` bytes are moved. */
void move_vector(int incoming, const char *data, const u64 *sizes, int n, u64 moved)
{
	struct user_vector *vector = calloc(n, sizeof(*vector));
	u64 size = 0;

	for (int i = 0; i < n; i++) {
		char *copy = malloc(sizes[i] + 1); // nothing of the next buffer is readable behind this one
		memcpy(copy, data + size, sizes[i]);
		vector[i].base = (u64)copy;
		vector[i].size = sizes[i];
		size += sizes[i];
	}
	struct work *w = new_work(incoming, moved);
	use_vector(w, (u64)vector, n);
	look_until_done(w);
	for (int i = 0; i < n; i++)
		free((void *)vector[i].base);
	free(vector);
}

/* sendfile or splice: bytes that can't be looked at. */
void move_opaque(int incoming, u64 size)
{
	struct work *w = new_work(incoming, size);

	w->opaque = 1;
	look_until_done(w);
}

void end_of_connection(int error)
{
	connection.error = error;
	if (connection.http2)
		end_streams(&connection, 1, ++now, (struct exchange *)works_leaf.window, &works_leaf.turns);
	else if (!connection.ignored)
		give_up(&connection, 1, ++now, &works_leaf.turns);
}

/* As user space tells how a process works, and as fork does. */
void tell_runtime(u32 pid, u64 flags, int forked)
{
	if (forked) {
		set_runtime(pid, flags);
		return;
	}
	runtimes.update(&pid, &flags);
	control_leaf.runtimes++;
}

/* As exec and exit do. */
void end_process(u32 pid)
{
	forget_runtime(pid);
}

/* How a process works, as who serves a request sees it. */
u64 runtime_seen(u32 pid)
{
	works_leaf.pid = pid;
	return runtime_of_server(&works_leaf);
}

/* What both ends know the connection by. */
void know_it_by(u64 pair)
{
	connection.pair = pair;
}

/* The client at the other end, process 99, makes this call. */
void other_end_calls(u32 number)
{
	struct connection client = {.role = ROLE_CLIENT, .fresh = 1, .pair = connection.pair, .requests = number + 1, .responses = number};
	struct trace trace = {.id = {1, 2}, .span = 3};
	struct served request = {.key = 5, .span = 3};

	make_call(&client, &trace, &request, number, 99);
}

/* The thread has read a request on another connection; 0: something else. */
static void thread_reads(u64 span, u8 loop, u64 runtime)
{
	u64 thread = thread_at_work;
	u32 pid = 42;
	struct context reads = {.now = {.key = 1000 + span, .span = span}, .pid = pid, .loop = loop};
	struct connection *other = connections.lookup(&reads.now.key);

	if (span && !other) {
		connections.update(&reads.now.key, &connection);
		other = connections.lookup(&reads.now.key);
		other->role = ROLE_SERVER;
		other->slot_used = 1;
		other->slot.trace.span = span;
		other->slot.trace.flags = 0;
		other->slot.request_start = ++now;
	}
	contexts.update(&thread, &reads);
	if (runtime || !loop)
		tell_runtime(pid, runtime, 0);
}

/* It is an event loop that acts in order. */
void loop_reads(u64 span)
{
	thread_reads(span, 1, RUNTIME_IN_ORDER);
}

/* It is an event loop of which nothing is known. */
void some_loop_reads(u64 span)
{
	thread_reads(span, 1, 0);
}

/* It waits for whatever is next. */
void loop_waits(void)
{
	note_wait(42, thread_at_work, 1, 0);
}

void go_on_in_thread(u32 thread)
{
	thread_at_work = thread;
}

/* It does one thing after the other, as a task of an event loop does. */
void task_reads(u64 span)
{
	thread_reads(span, 0, 0);
}

/* The span of the request that the thread serves now. */
u64 serves_now(void)
{
	u64 thread = thread_at_work;

	return contexts.lookup(&thread)->now.span;
}

/* A call is handed to a session of nghttp2. */
void submit(u64 session, int stream)
{
	hand_in(42, session);
	note_handed_in(stream);
}

/* What go_propagate_http2.h does before a header block is written that it has added a field to. */
void add_field(int stream)
{
	struct caller by = {.pid = 42, .tid = thread_at_work};

	place_early(&connection, http2_of(&connection, 1), 1, by, stream, 0)->added = 1;
}

void fill_ring(int full)
{
	ring_is_full = full;
}

int told_exchanges(struct exchange **first)
{
	*first = told;
	return told_count;
}

u64 counter(int which)
{
	return counters_leaf.values[which];
}

int is_ignored(void)
{
	return connection.ignored;
}

int is_http2(void)
{
	return connection.http2;
}

/* The aggregate's entry for a pid, method and status. */
int aggregated(u32 method, u32 status, int role, int protocol, struct overflow *into)
{
	struct overflow_key key = {.pid = 42, .method = method, .status = status, .role = role, .protocol = protocol};
	struct overflow *found = aggregate.lookup(&key);

	if (found)
		*into = *found;
	return found != NULL;
}

/* Layout of the shared header, for comparison with the mirror in Python. */
#define FIELD(type, name) printf(#type " " #name " %zu %zu\n", offsetof(struct type, name), sizeof(((struct type *)0)->name))
