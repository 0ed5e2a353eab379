/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which goroutine does what in Go's HTTP and gRPC: handlers run in goroutines of their own, and what a goroutine asks a
 * server is mostly written by another one. Where these programs are attached, and where the fields lie, is known to
 * autoinstr/libraries/goroutines.py.
 */
#ifndef AUTOINSTR_PROBES_GOROUTINES_H
#define AUTOINSTR_PROBES_GOROUTINES_H

static __always_inline __u64 user_u64(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/* Of a net.Conn: key in `connections`, if it is a session of crypto/tls, or a socket. */
static __always_inline __u64 key_of_conn(__u32 pid, __u64 conn)
{
	__u64 key = session_key(pid, conn);

	if (connections.lookup(&key))
		return key;
	/* a *net.TCPConn or *net.UnixConn begins with its *netFD, and that with a mutex of 16 bytes and the descriptor */
	key = sock_of(current_file(user_u64(user_u64(conn) + 16)));
	return key && connections.lookup(&key) ? key : 0;
}

/* The same, of the net.Conn at this address: an interface. What wraps another one holds that first. */
static __always_inline __u64 key_of_interface(__u32 pid, __u64 at)
{
	__u64 conn = user_u64(at + 8), key = key_of_conn(pid, conn);

	return key ? key : key_of_conn(pid, user_u64(conn + 8));
}

/* The current goroutine serves this stream of the connection. */
static __always_inline int serve_stream(struct pt_regs *ctx, __u32 pid, __u64 conn, __u32 number)
{
	__u64 key = key_of_interface(pid, conn), execution = goroutine_key(pid, GOROUTINE(ctx));
	struct http2 *h = key ? http2_connections.lookup(&key) : NULL;

	if (!h || !number)
		return 0;

	struct stream_key of_stream = {.id = h->id, .stream = number};
	struct stream *st = streams.lookup(&of_stream);
	if (!st)
		return 0;

	struct context new = {
		.now = {.key = h->id, .span = st->trace.span, .stream = number},
		.first = st->trace.span,
		.pid = pid,
	};
	contexts.update(&execution, &new);
	return 1;
}

static __always_inline struct go_layout *layout_of_target(__u32 pid)
{
	__u8 *target = target_of(pid);

	if (!pid || !target || !*target || *target & TARGET_SELF)
		return NULL;
	return go_layouts.lookup(&pid);
}

/* func (sc *serverConn) runHandler(rw *responseWriter, req *http.Request, handler func(...)), in net/http or x/net/http2 */
static __always_inline int run_handler(struct pt_regs *ctx, const struct go_layout *all, const struct go_http2 *l)
{
	__u32 pid = current_pid();
	__u64 state = user_u64(GO_ARGUMENT_2(ctx) + l->state), stream = user_u64(state + l->stream);

	if (l->conn)
		serve_stream(ctx, pid, GO_ARGUMENT_1(ctx) + l->conn, user_u64(stream + l->id));
	return 0;
}

int go_run_handler(struct pt_regs *ctx)
{
	struct go_layout *l = layout_of_target(current_pid());

	return l ? run_handler(ctx, l, &l->http2) : 0;
}

int go_run_handler_x(struct pt_regs *ctx)
{
	struct go_layout *l = layout_of_target(current_pid());

	return l ? run_handler(ctx, l, &l->x_http2) : 0;
}

/* grpc-go: func (s *Server) handleStream(t transport.ServerTransport, stream *transport.ServerStream, ...) */
int go_handle_stream(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);
	__u64 stream = GO_ARGUMENT_4(ctx);
	struct text method = {};

	if (!l || !l->rpc_server)
		return 0;
	if (serve_stream(ctx, pid, GO_ARGUMENT_3(ctx) + l->rpc_server, user_u64(stream + l->rpc_id)) &&
	    !bpf_probe_read_user(&method, sizeof(method), (void *)(stream + l->rpc_method)))
		call_it(ctx, NAME_RPC, method.at, method.size);
	return 0;
}

/*
 * net/http: func (pc *persistConn) roundTrip(req *transportRequest) (*Response, error): what the connection's own goroutine
 * writes next it writes for this one.
 */
int go_round_trip(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);
	struct served found = {};

	if (!l || !l->client || !served_by_goroutine(pid, GOROUTINE(ctx), &found))
		return 0;

	__u64 key = key_of_interface(pid, GO_ARGUMENT_1(ctx) + l->client);
	struct connection *c = key ? connections.lookup(&key) : NULL;
	if (c)
		c->caller = found;
	return 0;
}

#endif
