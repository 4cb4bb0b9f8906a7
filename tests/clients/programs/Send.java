// Jakarta Mail sends a file: Send.java PORT FILE ROOT CHUNK, with "-" for ROOT to go without TLS and 0 for CHUNK
// to go without BDAT.
import jakarta.mail.Address;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Send {
    public static void main(String[] arguments) throws Exception {
        String root = arguments[2];
        Properties properties = new Properties();
        properties.put("mail.smtp.host", "127.0.0.1");
        properties.put("mail.smtp.port", arguments[0]);
        properties.put("mail.smtp.from", "me@penstock.test");
        properties.put("mail.smtp.chunksize", arguments[3]);
        if (!root.equals("-")) {
            properties.put("mail.smtp.starttls.enable", "true");
            properties.put("mail.smtp.starttls.required", "true");
            // The chain is verified; the name is not that of the host connected to.
            properties.put("mail.smtp.ssl.checkserveridentity", "false");
            properties.put("mail.smtp.ssl.socketFactory", trusting(Path.of(root)).getSocketFactory());
        }
        Session session = Session.getInstance(properties);
        try (InputStream content = Files.newInputStream(Path.of(arguments[1]))) {
            MimeMessage message = new MimeMessage(session, content);
            try (Transport transport = session.getTransport("smtp")) {
                transport.connect();
                transport.sendMessage(message, new Address[] {new InternetAddress("you@penstock.test")});
            }
        }
    }

    private static SSLContext trusting(Path root) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = Files.newInputStream(root)) {
            store.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
