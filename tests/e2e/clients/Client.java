// The JDK's own HttpClient.
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        System.out.println("up");
        System.in.read();
        int failed = 0;
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] parts = line.split(" ");
            byte[] body = new byte[Integer.parseInt(parts[2])];
            BodyPublisher publisher = body.length == 0
                ? BodyPublishers.noBody()
                : parts[3].equals("chunked")
                    ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                    : BodyPublishers.ofByteArray(body);
            HttpRequest request = HttpRequest.newBuilder(URI.create(parts[1])).method(parts[0], publisher).build();
            long begun = System.nanoTime();
            try {
                client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            } catch (IOException error) {
                System.err.println(parts[1] + " " + error);
                failed = 1;
            }
            System.out.println(parts[1] + " " + (System.nanoTime() - begun));
        }
        System.exit(failed);
    }
}
