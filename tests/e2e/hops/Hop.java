// The JDK's own com.sun.net.httpserver with a pool of threads; calls by HttpURLConnection, or java.net.http's client.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileWriter;
import java.io.IOException;
import java.io.PrintWriter;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

public class Hop {
    static final ExecutorService pool = Executors.newFixedThreadPool(16);
    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final AtomicLong made = new AtomicLong();
    static String name, next;
    static PrintWriter log;

    static String make(String served) {
        String path = "/" + name + "-" + made.incrementAndGet();
        log.println(served + " " + path);
        return path;
    }

    static void call(String served, String base) {
        try {
            HttpURLConnection connection = (HttpURLConnection) URI.create(base + make(served)).toURL().openConnection();
            connection.getInputStream().readAllBytes();
        } catch (IOException error) {
            throw new RuntimeException(error);
        }
    }

    static void pause(long time) {
        try {
            Thread.sleep(time);
        } catch (InterruptedException stop) {
            throw new RuntimeException(stop);
        }
    }

    static void serve(String path) throws Exception {
        Runnable call = () -> call(path, next);
        switch (path.split("/")[1]) {
            case "fan" -> {
                var all = new CompletableFuture[3];
                for (int at = 0; at < 3; at++) all[at] = CompletableFuture.runAsync(call, pool);
                CompletableFuture.allOf(all).join();
            }
            case "late" -> new Thread(() -> { pause(5); call.run(); }).start();
            case "pause" -> { pause(2); call.run(); }
            case "handed" -> pool.submit(call).get();
            case "name" -> call(path, next.replace("127.0.0.1", "localhost"));
            case "client" -> client.send(HttpRequest.newBuilder(URI.create(next + make(path))).build(), BodyHandlers.ofString());
            default -> call.run();
        }
    }

    static void answer(HttpExchange exchange) throws IOException {
        exchange.getRequestBody().readAllBytes();
        try {
            serve(exchange.getRequestURI().getPath());
        } catch (Exception error) {
            throw new IOException(error);
        }
        exchange.sendResponseHeaders(200, 2);
        exchange.getResponseBody().write("ok".getBytes());
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        name = arguments[0];
        log = new PrintWriter(new FileWriter(arguments[2], true), true);
        next = arguments[3];
        System.setProperty("http.maxConnections", "64");
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[1])), 128);
        server.createContext("/", Hop::answer);
        server.setExecutor(Executors.newFixedThreadPool(32));
        server.start();
        if (System.getenv("HOP_BACKGROUND") != null)
            Executors.newScheduledThreadPool(1)
                .scheduleAtFixedRate(() -> call("-", next), 10, 10, TimeUnit.MILLISECONDS);
    }
}
