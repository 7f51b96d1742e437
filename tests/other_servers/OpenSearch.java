import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** Starts one node of OpenSearch on the loopback interface: OpenSearch HOME DATA PORT. */
public class OpenSearch extends Node {
    OpenSearch(Environment environment) {
        super(environment, List.of(new PluginInfo(
            "netty", "", "", org.opensearch.Version.CURRENT, "17", Netty4ModulePlugin.class.getName(), List.of(), false)),
            false);
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Settings settings = Settings.builder()
            .put("path.home", home.toString()).put("path.data", arguments[1]).put("path.logs", arguments[1])
            .put("http.port", arguments[2]).put("transport.port", "0").put("network.host", "127.0.0.1")
            .put("discovery.type", "single-node").put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("node.name", "other").build();
        new OpenSearch(new Environment(settings, home.resolve("config"))).start();
        new CountDownLatch(1).await();
    }
}
