// The JDK's own com.sun.net.httpserver.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;

public class Server {
    static void answer(HttpExchange exchange) throws IOException {
        long begun = System.nanoTime();
        Map<String, Integer> wish = new HashMap<>();
        String[] parts = exchange.getRequestURI().getPath().substring(1).split("/");
        for (int at = 0; at + 1 < parts.length; at += 2) wish.put(parts[at], Integer.parseInt(parts[at + 1]));
        exchange.getRequestBody().readAllBytes();
        try {
            Thread.sleep(wish.getOrDefault("d", 0));
        } catch (InterruptedException stop) {
            return;
        }
        int status = wish.getOrDefault("s", 200), size = wish.getOrDefault("b", 0);
        byte[] body = new byte[size];
        Arrays.fill(body, (byte) 'x');
        boolean empty = status == 204 || status == 304 || exchange.getRequestMethod().equals("HEAD") || size == 0;
        exchange.getResponseHeaders().set("Clock", begun + " " + System.nanoTime());
        exchange.sendResponseHeaders(status, empty ? -1 : wish.getOrDefault("c", 0) == 1 ? 0 : size);
        if (!empty) {
            OutputStream stream = exchange.getResponseBody();
            for (int at = 0; at < size; at += 100) stream.write(body, at, Math.min(100, size - at));
            stream.close();
        }
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 64);
        server.createContext("/", Server::answer);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}
