"""The texts of alerts in Brazilian Portuguese; see ``actors.alert_texts``."""

import typing as t

from actors.alert_texts_types import RuleText, Texts

PORTUGUESE: t.Final = Texts(
    rules={
        "down": RuleText(
            title="Sem conexão com o WhatsApp: {who}",
            cause="A rede, o proxy ou o próprio WhatsApp. Há novas tentativas o tempo todo; o"
            " WhatsApp guarda o que for enviado nesse meio-tempo.",
            cure="Verifique a rede desta máquina e o proxy. zapvisor timeline {name} mostra os"
            " motivos, zapvisor start {name} tenta na hora.",
        ),
        "parked": RuleText(
            title="Poucas tentativas depois de muitas falhas: {who}",
            cause="O que faz a conexão falhar não passa sozinho.",
            cure="Elimine a causa citada acima e depois execute: zapvisor start {name}",
        ),
        "logged_out": RuleText(
            title="Desconectada do WhatsApp: {who}",
            cause="O aparelho foi desconectado no celular ou pelo WhatsApp, ou a conta está"
            " bloqueada. As chaves foram mantidas.",
            cure="Veja Aparelhos conectados no celular e faça o que o WhatsApp pedir. Depois"
            " execute: zapvisor pair {name}",
        ),
        "conflict": RuleText(
            title="As chaves são usadas por outro programa: {who}",
            cause="Uma cópia dos dados deste serviço está em uso em outro lugar, ou o aparelho foi"
            " importado e o outro programa continua ligado.",
            cure="Pare o outro programa e depois execute: zapvisor start {name}",
        ),
        "banned": RuleText(
            title="Banida pelo WhatsApp: {who}",
            cause="Para o WhatsApp, o número viola os termos de uso: mensagens demais, ou para quem"
            " não as queria.",
            cure="Abra o WhatsApp no celular e peça uma análise. Depois envie menos e mais devagar."
            " zapvisor timeline {name} mostra até quando dura, se isso for conhecido.",
        ),
        "deaf": RuleText(
            title="Responde aos pings, mas parece não receber nada: {who}",
            cause="Chega muito menos do que o normal neste horário. O WhatsApp pode ter parado de"
            " entregar nesta conexão, ou ninguém está escrevendo.",
            cure="Envie uma mensagem ao número a partir de outro celular. Se ela não chegar,"
            " execute: zapvisor restart {name}",
        ),
        "sync_errors": RuleText(
            title="Muitas mensagens não podem ser lidas: {who}",
            cause="{count} de {total} entregas da última hora não puderam ser lidas ou gravadas."
            " Muitas vezes o celular da conta foi trocado, ou o relógio dele está errado.",
            cure="zapvisor logs --connection {name} mostra o motivo. A maioria volta sozinha; abra"
            " o WhatsApp no celular para que ele possa reenviá-las.",
        ),
        "quarantine": RuleText(
            title="Mensagens em quarentena: {who}",
            cause="{count} não puderam ser gravadas. Nada se perdeu: os bytes estão guardados.",
            cure="zapvisor quarantine list mostra os erros. Resolvida a causa, execute:"
            " zapvisor quarantine retry --all",
        ),
        "undecryptable": RuleText(
            title="Mensagens à espera do texto: {who}",
            cause="{count} não puderam ser decifradas e não foram reenviadas. Os remetentes, ou o"
            " celular da conta, estão sem rede.",
            cure="Abra o WhatsApp no celular da conta e deixe-o aberto por alguns minutos.",
        ),
        "gap": RuleText(
            title="Mensagens de uma interrupção não chegaram: {who}",
            cause="O WhatsApp anunciou mais do que enviou: faltam {missing}, em {count} lacunas.",
            cure="zapvisor gaps {name} --open mostra quais. Elas ainda podem chegar; se não,"
            " execute: zapvisor gaps accept NÚMERO",
        ),
        "phone": RuleText(
            title="O celular não é visto há {days} dias: {who}",
            cause="Está desligado ou sem rede. O WhatsApp desconecta aparelhos cujo celular fica 14"
            " dias ausente.",
            cure="Ligue o celular, conecte-o à internet e abra o WhatsApp nele.",
        ),
        "outage": RuleText(
            title="Muitas conexões falham da mesma forma ({count})",
            cause="A rede desta máquina, o proxy ou o próprio WhatsApp.",
            cure="Verifique a rede e o proxy. Algumas conexões tentam por todas; as outras voltam"
            " sozinhas.",
        ),
        "outdated": RuleText(
            title="O WhatsApp recusa esta versão do cliente",
            cause="O WhatsApp avançou, e nenhuma versão mais nova pôde ser encontrada.",
            cure="Ponha uma whatsapp.version mais nova na configuração e depois execute:"
            " zapvisor reload",
        ),
        "writer": RuleText(
            title="As mensagens são gravadas devagar demais",
            cause="O banco de dados grava menos do que chega: {depth} de {capacity} lugares estão"
            " ocupados. Um disco lento, um bloqueio ou um comando pesado de outra pessoa.",
            cure="zapvisor health diz o que a gravação espera. Verifique a carga e o disco do"
            " PostgreSQL.",
        ),
        "database": RuleText(
            title="O banco de dados não responde",
            cause="O PostgreSQL está parado, inacessível ou sem conexões livres. Nada é confirmado"
            " ao WhatsApp nesse meio-tempo, portanto nada se perde.",
            cure="Verifique se o PostgreSQL está em execução, o disco e o log dele. O serviço"
            " continua sozinho assim que ele responder.",
        ),
        "disk": RuleText(
            title="O disco está quase cheio: {who}",
            cause="Restam {free}.",
            cure="Libere espaço, ou guarde os arquivos por menos tempo (media.retention). As"
            " mensagens param quando o PostgreSQL não consegue gravar.",
        ),
        "media": RuleText(
            title="Arquivos de mensagens em espera ({count})",
            cause="Chegam mais rápido do que são baixados, ou os downloads falham.",
            cure="zapvisor logs --level warning mostra se os downloads falham. Verifique a rede e"
            " media.concurrency.",
        ),
        "webhook": RuleText(
            title="Um webhook desistiu de entregas: {who}",
            cause="O endereço recusou {count} delas, ou não respondeu, muitas vezes.",
            cure="zapvisor webhooks dead {name} mostra quais; quando o endereço voltar a"
            " aceitá-las, execute: zapvisor webhooks replay {name}",
        ),
        "channel": RuleText(
            title="Um canal de notificações falha: {who}",
            cause="O servidor não responde, ou recusa a senha ou o destinatário.",
            cure="zapvisor channels mostra o erro. Corrija [[channels]] na configuração e depois"
            " execute: zapvisor channels test {name}",
        ),
        "export": RuleText(
            title="A exportação programada não foi feita: {export}",
            cause="Não é possível gravar no diretório ou no S3, o disco está cheio, ou há mais para"
            " gravar do que tempo.",
            cure="zapvisor exports mostra o erro. Corrija [export] na configuração; há novas"
            " tentativas durante uma semana. zapvisor export --resume --name {export} continua na"
            " hora.",
        ),
    },
    causes={
        "network": "A rede desta máquina ou o proxy: os servidores do WhatsApp não são alcançados.",
        "throttled": "Para o WhatsApp, este número ou este endereço se conecta vezes demais.",
        "whatsapp": "Os servidores do WhatsApp estão com problemas; isso passa sozinho.",
        "storage": "O banco de dados está ausente ou lento, e as conexões se fecham de propósito.",
        "defect": "Um defeito do zapvisor; o log dele tem os detalhes.",
    },
    words={
        "resolved": "Resolvido",
        "again": "Continua",
        "since": "Desde {at} ({span}).",
        "over": "Começou em {at} e durou {span}.",
        "says": "O serviço diz",
        "cause": "Causa provável",
        "cure": "O que fazer",
        "and": "{first} e {last}",
        "name": "NOME",
        "more": "mais {count}",
        "acknowledge": "zapvisor alerts mostra o alerta; zapvisor alerts ack NÚMERO encerra estes"
        " lembretes.",
        "severity_info": "informação",
        "severity_warning": "atenção",
        "severity_critical": "crítico",
    },
)
