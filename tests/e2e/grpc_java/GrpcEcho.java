// grpc-java (Netty) with the service of ../servers/grpc_echo.py. Arguments: port, log; for TLS also certificate and key.
// Messages are bytes: no generated code.

import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCall.Listener;
import io.grpc.ServerCallHandler;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;

public class GrpcEcho {
    static final String SERVICE = "autoinstr.test.Echo";
    static final Metadata.Key<String> CLOCK = Metadata.Key.of("clock", Metadata.ASCII_STRING_MARSHALLER);
    static PrintStream log;

    static class Raw implements MethodDescriptor.Marshaller<byte[]> {
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        public byte[] parse(InputStream content) {
            try {
                return content.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    // What the first message asks for.
    static class Wish {
        final String path;
        final Map<String, Integer> found = new HashMap<>();

        Wish(byte[] message) {
            path = new String(message, StandardCharsets.ISO_8859_1).split(" ")[0];
            String[] words = path.substring(1).split("/");
            for (int at = 0; at + 1 < words.length; at += 2) {
                if (words[at + 1].matches("\\d+")) found.put(words[at], Integer.valueOf(words[at + 1]));
            }
        }

        int get(String name, int otherwise) {
            return found.getOrDefault(name, otherwise);
        }

        byte[] answer() {
            byte[] made = new byte[get("b", 0)];
            Arrays.fill(made, (byte) 'x');
            return made;
        }
    }

    static class Echo implements ServerCallHandler<byte[], byte[]> {
        final String method;

        Echo(String method) {
            this.method = method;
        }

        public Listener<byte[]> startCall(ServerCall<byte[], byte[]> call, Metadata headers) {
            long begun = System.nanoTime(); // CLOCK_MONOTONIC
            call.request(Integer.MAX_VALUE);
            return new Listener<byte[]>() {
                Wish wish;
                boolean sent;

                void send() {
                    if (!sent) call.sendHeaders(new Metadata());
                    sent = true;
                    call.sendMessage(wish.answer());
                }

                public void onMessage(byte[] message) {
                    if (wish == null) wish = new Wish(message);
                    if (method.equals("Chat")) send();
                }

                public void onHalfClose() {
                    try {
                        Thread.sleep(wish.get("d", 0));
                    } catch (InterruptedException error) {
                        return;
                    }
                    int code = wish.get("s", 0);
                    log.printf("%s %s %d%n", method, wish.path, code);
                    Metadata trailers = new Metadata();
                    trailers.put(CLOCK, begun + " " + System.nanoTime());
                    int answers = method.equals("Chat") || code != 0 ? 0 : method.equals("Download") ? wish.get("n", 1) : 1;
                    for (int n = 0; n < answers; n++) send();
                    Status status = Status.fromCodeValue(code);
                    call.close(code == 0 ? status : status.withDescription("as was asked"), trailers);
                }
            };
        }
    }

    static MethodDescriptor<byte[], byte[]> method(String name, MethodType type) {
        return MethodDescriptor.newBuilder(new Raw(), new Raw())
            .setType(type)
            .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
            .build();
    }

    public static void main(String[] arguments) throws Exception {
        log = new PrintStream(arguments[1]);
        NettyServerBuilder builder = NettyServerBuilder.forAddress(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        if (arguments.length > 2) builder.useTransportSecurity(new File(arguments[2]), new File(arguments[3]));
        Server server = builder
            .executor(Executors.newFixedThreadPool(32))
            .addService(ServerServiceDefinition.builder(SERVICE)
                .addMethod(method("Unary", MethodType.UNARY), new Echo("Unary"))
                .addMethod(method("Upload", MethodType.CLIENT_STREAMING), new Echo("Upload"))
                .addMethod(method("Download", MethodType.SERVER_STREAMING), new Echo("Download"))
                .addMethod(method("Chat", MethodType.BIDI_STREAMING), new Echo("Chat"))
                .build())
            .build();
        server.start();
        server.awaitTermination();
    }
}
